//! A client that sends exactly the bytes it is told to, and reads exactly one response.
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// One response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the header `name`, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The message of a greeting.
    pub fn message(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()["message"].as_str().expect("a message").to_owned()
    }

    /// The `detail` of the problem document that an error with `status` must be.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document = self.json();
        assert_eq!(document["status"], status, "{document}");
        assert!(document["type"].is_string(), "{document}");
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()), "{document}");
        let detail = document["detail"].as_str().expect("a detail");
        assert!(detail.split(' ').count() > 2, "says nothing: {document}");
        detail.to_owned()
    }

    /// Whether the server announced that it closes the connection.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// One connection; responses are read in the order in which requests were sent.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the service accepts connections")
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// A second handle on the socket, to write to it from another thread.
    pub fn stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends `bytes` as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the service reads");
    }

    /// Ends the sending direction.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a request without reading its response.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) {
        self.send(request(method, path, body));
    }

    /// Reads one response to a request that was not HEAD.
    pub fn receive(&mut self) -> Response {
        self.try_receive().expect("a response")
    }

    /// Reads one response to a request that was HEAD.
    pub fn receive_head(&mut self) -> Response {
        self.read_head().expect("a response")
    }

    /// Reads one response, or says why there was none.
    pub fn try_receive(&mut self) -> io::Result<Response> {
        let mut response = self.read_head()?;
        let length = response.header("content-length").map(|length| length.parse().unwrap());
        response.body = match (response.status, length) {
            (100..=199 | 204 | 304, _) => Vec::new(),
            (_, Some(length)) => self.take(length)?,
            _ if response.header("transfer-encoding") == Some("chunked") => self.take_chunks()?,
            _ => self.take_rest()?,
        };
        Ok(response)
    }

    /// Whether the server has closed the connection and sent nothing more; waits for either.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && matches!(self.fill(), Err(error) if error.kind() != ErrorKind::WouldBlock)
    }

    /// One request and its response.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Response {
        self.ask(method, path, body);
        if method == "HEAD" { self.receive_head() } else { self.receive() }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "")
    }

    pub fn put(&mut self, path: &str, body: &str) -> Response {
        self.request("PUT", path, body)
    }

    /// One request and its response, or why there was none.
    pub fn try_request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Response> {
        self.stream.write_all(request(method, path, body).as_bytes())?;
        self.try_receive()
    }

    fn read_head(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.take(end + 4)?).expect("a head of text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Ok(Response {
            status: status.unwrap_or_else(|| panic!("no status in {head}")),
            headers: headers.collect(),
            body: Vec::new(),
        })
    }

    fn take_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = self.received.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                self.fill()?;
            };
            let size = String::from_utf8(self.take(end + 2)?).expect("a chunk size");
            let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk size");
            let chunk = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    fn take_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.received);
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < length {
            self.fill()?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&piece[..length]);
                Ok(())
            }
            // A signal arrived, such as that a frozen child stopped: a read with a time limit is not continued by the kernel.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, body: &str) -> String {
    let length = match body.len() {
        0 if method != "PUT" => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}")
}
