//! The module loader.
//!
//! Input: one byte, how the rest becomes a module: as it is; as damage (place, byte) to a good one; or as the choices that
//! wasm-smith makes, whose functions a handler of ours then calls.

use arbitrary::Unstructured;
use wasm_smith::Config;
use wasmparser::{CompositeInnerType, Parser, Payload, TypeRef, ValType};
use weir::field::Codec;

use crate::guest::{body, buffer_code, exercise, module, section, signed, sized, unsigned};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\x00\0asm\x01\0\0\0",
    b"\x01",
    b"\x02",
    b"\x60\x00\x00",
    b"\x02\x40",
    b"\x03\x40",
    b"\x0b",
    b"\x10\x00",
    b"\x0e\x02\x00\x00\x00",
    b"\x41\x00",
    b"\x20\x00",
    b"\xfc\x0a",
    b"\xfc\x08",
    b"\xd0\x70",
    b"\xff\xff\xff\xff\x0f",
    b"\x05weir1",
    b"\x08on_event",
    b"\x04name",
];

pub(crate) fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let payload = br#"{"a":{"b":[1,2]},"temp":21.5}"#;
    match how % 4 {
        0 => exercise(rest, Codec::Json, payload),
        1 => {
            let mut wasm = module(&[0x41, 0], &[0x20, 0, 0x1a, 0x41, 1], crate::calls::TEXT);
            for patch in rest.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % wasm.len();
                wasm[at] = patch[2];
            }
            exercise(&wasm, Codec::Json, payload);
        }
        _ => {
            if let Some(wasm) = grown(rest) {
                exercise(&wasm, Codec::Json, payload);
            }
        }
    }
}

/// A module of wasm-smith's with what the ABI wants.
fn grown(data: &[u8]) -> Option<Vec<u8>> {
    let config = Config {
        available_imports: Some(module(&[0x41, 0], &[0x41, 0], b"")),
        max_imports: 12,
        max_types: 20,
        max_funcs: 12,
        max_exports: 4,
        max_globals: 12,
        max_memories: 1,
        max_memory32_bytes: 1 << 16,
        max_tables: 1,
        max_table_elements: 100,
        max_instructions: 120,
        max_data_segments: 4,
        max_element_segments: 4,
        allow_start_export: false,
        generate_custom_sections: false,
        custom_page_sizes_enabled: false,
        simd_enabled: false,
        relaxed_simd_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        memory64_enabled: false,
        gc_enabled: false,
        wide_arithmetic_enabled: false,
        extended_const_enabled: false,
        ..Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(data)).ok()?;
    graft(&module.to_bytes())
}

/// What of a module the grafted parts must know.
#[derive(Default)]
struct Counts {
    types: Vec<(Vec<ValType>, usize)>,
    /// Types of all functions, the imported ones first.
    functions: Vec<u32>,
    imported: usize,
}

fn counts(wasm: &[u8]) -> Option<Counts> {
    let mut counts = Counts::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.ok()?.into_types() {
                        let CompositeInnerType::Func(ty) = ty.composite_type.inner else { return None };
                        counts.types.push((ty.params().to_vec(), ty.results().len()));
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section {
                    if let TypeRef::Func(ty) = import.ok()?.ty {
                        counts.functions.push(ty);
                    }
                }
                counts.imported = counts.functions.len();
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    counts.functions.push(ty.ok()?);
                }
            }
            _ => {}
        }
    }
    Some(counts)
}

/// A handler that calls every function of the module with zeros, and drops what they return.
fn handler(counts: &Counts) -> Vec<u8> {
    let mut code = Vec::new();
    for (index, ty) in counts.functions.iter().enumerate().skip(counts.imported) {
        let Some((params, results)) = counts.types.get(*ty as usize) else { continue };
        let zeros: Option<Vec<&[u8]>> = params.iter().map(zero).collect();
        let Some(zeros) = zeros else { continue };
        zeros.iter().for_each(|zero| code.extend_from_slice(zero));
        code.push(0x10);
        unsigned(&mut code, index as u64);
        code.extend(vec![0x1a; *results]);
    }
    code.extend([0x41, 1]);
    code
}

fn zero(ty: &ValType) -> Option<&'static [u8]> {
    match *ty {
        ValType::I32 => Some(&[0x41, 0]),
        ValType::I64 => Some(&[0x42, 0]),
        ValType::F32 => Some(&[0x43, 0, 0, 0, 0]),
        ValType::F64 => Some(&[0x44, 0, 0, 0, 0, 0, 0, 0, 0]),
        ValType::FUNCREF => Some(&[0xd0, 0x70]),
        ValType::EXTERNREF => Some(&[0xd0, 0x6f]),
        _ => None,
    }
}

/// Adds types, functions and exports of the ABI behind the module's own: no index of it changes.
fn graft(wasm: &[u8]) -> Option<Vec<u8>> {
    let counts = counts(wasm)?;
    let (types, functions) = (counts.types.len() as u64, counts.functions.len() as u64);
    let mut exports = Vec::new();
    for (name, kind, index) in
        [("memory", 2, 0), ("weir_abi", 0, functions), ("weir_buf", 0, functions + 1), ("on_event", 0, functions + 2)]
    {
        exports.extend(sized(name.as_bytes()));
        exports.push(kind);
        unsigned(&mut exports, index);
    }
    let mut indices = Vec::new();
    (types..types + 3).for_each(|ty| unsigned(&mut indices, ty));
    let mut one = vec![0x41];
    signed(&mut one, 1);
    let mut added: Vec<(u8, u64, Vec<u8>)> = vec![
        (section::TYPE, 3, vec![0x60, 0, 1, 0x7f, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f]),
        (section::FUNCTION, 3, indices),
        (section::EXPORT, 4, exports),
        (section::CODE, 3, [body(&one), body(&buffer_code()), body(&handler(&counts))].concat()),
    ];
    // One page in place of what it has, which is mostly none: the event buffer must lie in it.
    added.push((section::MEMORY, 1, vec![0, 1]));
    let mut sections = read_sections(wasm)?;
    sections.retain(|(id, _)| *id != section::MEMORY);
    for (id, count, bytes) in added {
        match sections.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => *old = extended(old, count, &bytes)?,
            None => {
                let mut new = Vec::new();
                unsigned(&mut new, count);
                new.extend(bytes);
                // In the order of the standard, in which the section of data counts stands before the code.
                let place = sections.iter().position(|(other, _)| order(id) < order(*other)).unwrap_or(sections.len());
                sections.insert(place, (id, new));
            }
        }
    }
    let mut out = b"\0asm\x01\0\0\0".to_vec();
    for (id, bytes) in sections {
        out.push(id);
        out.extend(sized(&bytes));
    }
    Some(out)
}

/// The place of a section: by its id, but for the count of data segments.
fn order(id: u8) -> u8 {
    match id {
        12 => section::CODE * 2 - 1,
        id => id * 2,
    }
}

fn read_sections(wasm: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let (mut rest, mut sections) = (wasm.get(8..)?, Vec::new());
    while let Some((id, behind)) = rest.split_first() {
        rest = behind;
        let len = take_unsigned(&mut rest)?;
        let (bytes, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        sections.push((*id, bytes.to_vec()));
        rest = behind;
    }
    Some(sections)
}

fn take_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A vector with more items behind its own.
fn extended(old: &[u8], count: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = old;
    let before = take_unsigned(&mut rest)?;
    let mut out = Vec::new();
    unsigned(&mut out, before + count);
    out.extend_from_slice(rest);
    out.extend_from_slice(bytes);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing modules that are all refused at the door would prove little.
    #[test]
    fn most_grown_modules_load() {
        let mut dice = crate::mutate::Dice(3);
        let (mut grown_at_all, mut loaded) = (0, 0);
        for _ in 0..60 {
            let data: Vec<u8> = (0..3000).map(|_| dice.roll() as u8).collect();
            let Some(wasm) = grown(&data) else { continue };
            grown_at_all += 1;
            loaded += usize::from(crate::guest::loads(&wasm));
        }
        println!("{loaded} of {grown_at_all} load");
        assert!(30 < grown_at_all && grown_at_all < loaded * 2, "{loaded} of {grown_at_all}");
    }
}
