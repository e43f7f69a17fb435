//! JSON by the letter of RFC 8259, as far as the contract needs it.

/// The string under `field` of the object that `bytes` are; none if that is not so, or if the field is there twice.
pub fn only_string(bytes: &[u8], field: &str) -> Option<String> {
    let mut reader = Reader { rest: std::str::from_utf8(bytes).ok()? };
    reader.space();
    let mut found = None;
    reader.object(&mut |reader| {
        if reader.string()?? != field {
            reader.name_ends()?;
            return reader.value();
        }
        reader.name_ends()?;
        found.replace(reader.string()??).is_none().then_some(())
    })?;
    reader.space();
    found.filter(|_| reader.rest.is_empty())
}

struct Reader<'a> {
    rest: &'a str,
}

/// Each method reads one thing and yields nothing where that is not there.
impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn name_ends(&mut self) -> Option<()> {
        self.space();
        self.take(":")?;
        self.space();
        Some(())
    }

    fn object(&mut self, member: &mut dyn FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take("{")?;
        self.list("}", member)
    }

    /// What stands between commas up to `end`.
    fn list(&mut self, end: &str, item: &mut dyn FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.space();
        if self.take(end).is_some() {
            return Some(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            if self.take(end).is_some() {
                return Some(());
            }
            self.take(",")?;
        }
    }

    fn value(&mut self) -> Option<()> {
        match self.rest.chars().next()? {
            '{' => self.object(&mut |reader| {
                reader.string()?;
                reader.name_ends()?;
                reader.value()
            }),
            '[' => {
                self.take("[")?;
                self.list("]", &mut Self::value)
            }
            '"' => self.string().map(drop),
            't' => self.take("true"),
            'f' => self.take("false"),
            'n' => self.take("null"),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take("-");
        if self.take("0").is_none() {
            self.digits()?;
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let some = rest.len() < self.rest.len();
        self.rest = rest;
        some.then_some(())
    }

    /// A string; its text is absent if it has a half of a surrogate pair, which no text can hold.
    #[allow(clippy::option_option, reason = "no string, or one without a text")]
    fn string(&mut self) -> Option<Option<String>> {
        self.take("\"")?;
        let mut units = Vec::new();
        loop {
            match self.next()? {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escape()?),
                control if control < ' ' => return None,
                other => units.extend_from_slice(other.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        Some(match self.next()? {
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            same @ ('"' | '\\' | '/') => same as u16,
            'u' => {
                let digits =
                    self.rest.get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
                self.rest = &self.rest[4..];
                u16::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        })
    }
}
