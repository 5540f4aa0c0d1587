//! The little that must be known of a module's bytes: its memory, and what it imports.

const IMPORT: u8 = 2;
const MEMORY: u8 = 5;

/// A module's sections.
pub struct Module<'a> {
    sections: Vec<(u8, &'a [u8])>,
}

impl<'a> Module<'a> {
    /// Splits `bytes`; `None` if they are not a module.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(8)?;
        let mut sections = Vec::new();
        while let Some((id, tail)) = rest.split_first() {
            rest = tail;
            let len = number(&mut rest)? as usize;
            let (body, tail) = rest.split_at_checked(len)?;
            sections.push((*id, body));
            rest = tail;
        }
        head.starts_with(b"\0asm").then_some(Self { sections })
    }

    fn section(&self, id: u8) -> Option<&'a [u8]> {
        self.sections.iter().find(|section| section.0 == id).map(|section| section.1)
    }

    /// Bytes of linear memory that the module starts with.
    pub fn memory_bytes(&self) -> Option<u64> {
        let mut body = self.section(MEMORY)?;
        let _count = number(&mut body)?;
        let flags = number(&mut body)?;
        let minimum = number(&mut body)?;
        if flags & 1 != 0 {
            number(&mut body)?;
        }
        let page_bits = if flags & 8 != 0 { number(&mut body)? } else { 16 };
        Some(minimum << page_bits)
    }

    /// Names of the imported functions, as `module.name`.
    pub fn imports(&self) -> Option<Vec<String>> {
        let Some(mut body) = self.section(IMPORT) else { return Some(Vec::new()) };
        let text = |body: &mut &[u8]| {
            let len = number(body)? as usize;
            let (text, rest) = body.split_at_checked(len)?;
            *body = rest;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        (0..number(&mut body)?)
            .map(|_| {
                let name = format!("{}.{}", text(&mut body)?, text(&mut body)?);
                let (kind, rest) = body.split_first()?;
                body = rest;
                number(&mut body)?;
                (*kind == 0).then_some(name)
            })
            .collect()
    }
}

/// Takes a LEB128 number of up to 64 bits off the front.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_bytes_whatever_the_page() {
        for (memory, bytes) in
            [(&[1, 0, 2][..], 128 * 1024), (&[1, 1, 2, 3], 128 * 1024), (&[1, 9, 0x80, 0x10, 0x80, 0x10, 0], 2048)]
        {
            let module = [b"\0asm\x01\0\0\0".as_slice(), &[MEMORY, memory.len() as u8], memory].concat();
            assert_eq!(Module::parse(&module).unwrap().memory_bytes(), Some(bytes));
        }
    }

    #[test]
    fn what_is_not_a_module_is_none() {
        for bytes in [b"".as_slice(), b"\0asm", b"\0asm\x01\0\0\0\x05\x09", b"MZ345678"] {
            assert!(Module::parse(bytes).is_none());
        }
    }
}
