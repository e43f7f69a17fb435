//! Fills a new file of the service's embedded store: `fill-embedded FOLDER USERS`.

use redb::{Database, TableDefinition};

/// As the service keeps its users.
const USERS: TableDefinition<'_, &str, (i16, i8, i8)> = TableDefinition::new("users");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, users] = arguments.as_slice() else { return Err("usage: fill-embedded FOLDER USERS".into()) };
    let transaction = Database::create(format!("{folder}/users.redb"))?.begin_write()?;
    let mut table = transaction.open_table(USERS)?;
    for number in 0..users.parse::<u32>()? {
        let letters = format!("{number:07}").into_bytes().into_iter().map(|digit| char::from(digit - b'0' + b'a'));
        table.insert(letters.collect::<String>().as_str(), (1990, 1, 1))?;
    }
    drop(table);
    Ok(transaction.commit()?)
}
