//! A network path that takes time, between a program and its database: `delay SERVER MICROSECONDS` prints its address.

#[path = "../../../../tests/support/delay.rs"]
mod path;

use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().expect("usage: delay SERVER MICROSECONDS");
    let one_way = arguments.next().and_then(|number| number.parse().ok()).expect("a number of microseconds");
    let delay = path::Delay::new(&server, Duration::from_micros(one_way));
    println!("{}", delay.address());
    loop {
        std::thread::park();
    }
}
