//! Common mistakes in a body that is no JSON, each in words that say what it should be.

/// Quotes as word processors and people write them.
const TYPOGRAPHIC: [char; 11] = ['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '＂'];

/// What is wrong with a body that could not be parsed: the words behind "the body".
pub(super) fn mistake(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => return Some("starts with a byte order mark, which JSON does not have"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => return Some("is UTF-16, and must be UTF-8"),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => return Some("is compressed, and must be sent as it is"),
        _ => {}
    }
    let text: String = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace().collect();
    let is_json = text.starts_with(['{', '[', '"']);
    if text.starts_with("\"{") {
        Some("is a string that holds JSON, and must be the object itself")
    } else if text.contains(TYPOGRAPHIC) {
        Some("has typographic quotes, and must have straight ones")
    } else if text.starts_with('\'') || text.starts_with("{'") || text.contains(":'") {
        Some("has single quotes, and must have double ones")
    } else if text.starts_with("--") || !is_json && text.contains(['=', '%']) {
        Some("is a form, and must be JSON")
    } else if text.starts_with('{') && text[1..].starts_with(|first: char| first.is_ascii_alphabetic()) {
        Some("has lost its double quotes, perhaps to a shell")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_and_what_is_none_is_not() {
        let utf_16 = |order: fn(u16) -> [u8; 2]| "{\"dateOfBirth\"".encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let cases: [(&[u8], Option<&str>); 25] = [
            (b"\xef\xbb\xbf{\"dateOfBirth\":\"1815-12-10\"}", Some("byte order mark")),
            (b"\xff\xfe{\0", Some("UTF-16")),
            (b"\xfe\xff\0{", Some("UTF-16")),
            (&utf_16(u16::to_le_bytes), Some("UTF-16")),
            (&utf_16(u16::to_be_bytes), Some("UTF-16")),
            (b"\x1f\x8b\x08\x00", Some("compressed")),
            (b"\x28\xb5\x2f\xfd\x04", Some("compressed")),
            (b"dateOfBirth=1815-12-10", Some("form")),
            (b"name=ada&dateOfBirth=1815-12-10", Some("form")),
            (b"%7B%22dateOfBirth%22%3A%221815-12-10%22%7D", Some("form")),
            (b"--x\r\nContent-Disposition: form-data; name=\"dateOfBirth\"\r\n\r\n1815-12-10\r\n--x--", Some("form")),
            ("{“dateOfBirth”: “1815-12-10”}".as_bytes(), Some("typographic")),
            ("{„dateOfBirth“:\"1815-12-10\"}".as_bytes(), Some("typographic")),
            ("{‘dateOfBirth’:‘1815-12-10’}".as_bytes(), Some("typographic")),
            ("{«dateOfBirth»:«1815-12-10»}".as_bytes(), Some("typographic")),
            (b"{'dateOfBirth':'1815-12-10'}", Some("single")),
            (b"{ 'dateOfBirth' : \"1815-12-10\" }", Some("single")),
            (b"{\"dateOfBirth\": '1815-12-10'}", Some("single")),
            (b"'{dateOfBirth:1815-12-10}'", Some("single")),
            (b"{dateOfBirth:1815-12-10}", Some("lost")),
            (b"\"{\\\"dateOfBirth\\\":\\\"1815-12-10\\\"}\"", Some("string that holds JSON")),
            (b"{\"dateOfBirth\":\"1815-12-10\"", None),
            (b"nonsense", None),
            (b"\xff", None),
            (b"{", None),
        ];
        for (bytes, expected) in cases {
            let (found, text) = (mistake(bytes), String::from_utf8_lossy(bytes));
            match expected {
                Some(words) => assert!(found.is_some_and(|found| found.contains(words)), "{text}: {found:?}"),
                None => assert_eq!(found, None, "{text}"),
            }
        }
    }
}
