//! Modules that attack whoever loads them: each is refused, or loads, in bounded time and memory on a small stack.

use std::time::{Duration, Instant};

use weir::field::Fields;
use weir::function::{Function, Invocation, LoadError, Pool};
use weir::units::Bytes;

use super::{Clock, LOAD_STACK, load, manifest, on_stack};

/// Heap at the peak of a load, as a multiple of the module's size, beside [`HEAP_FIXED`].
const HEAP_FACTOR: u64 = 100;
const HEAP_FIXED: u64 = 256 << 10;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, mut value: i64) {
    while !(-64..64).contains(&value) {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8 & 0x7f);
}

/// Bytes with their length in front.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// `count` items in a vector.
fn many(count: u64, item: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, count);
    (0..count).for_each(|_| out.extend_from_slice(item));
    out
}

/// A module as sections by their ids, which a case replaces; ids in the order of the standard.
#[derive(Clone)]
struct Raw(Vec<(u8, Vec<u8>)>);

const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const MEMORY: u8 = 5;
const GLOBAL: u8 = 6;
const EXPORT: u8 = 7;
const START: u8 = 8;
const ELEMENT: u8 = 9;
const CODE: u8 = 10;
const DATA: u8 = 11;
/// Stands before the code.
const DATA_COUNT: u8 = 12;

impl Raw {
    /// A module that loads: types `() -> i64` and `(i32) -> i32`, `weir_buf`, `on_event`, a page of memory.
    fn good() -> Self {
        let body = |code: &[u8]| sized(&[&[0], code, &[0x0b]].concat());
        let buffer = body(&[0x42, 0x80, 0x88, 0x80, 0x80, 0x80, 0x80, 0x01]);
        let mut exports = vec![4];
        for (name, kind, index) in [("memory", 2, 0), ("weir_abi", 3, 0), ("weir_buf", 0, 0), ("on_event", 0, 1)] {
            exports.extend(sized(name.as_bytes()));
            exports.extend([kind, index]);
        }
        Self(vec![
            (TYPE, vec![2, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f]),
            (FUNCTION, vec![2, 0, 1]),
            (MEMORY, vec![1, 0, 1]),
            (GLOBAL, vec![1, 0x7f, 0, 0x41, 1, 0x0b]),
            (EXPORT, exports),
            (CODE, [vec![2], buffer, body(&[0x41, 0])].concat()),
        ])
    }

    /// Puts a section in its place.
    fn with(mut self, id: u8, bytes: Vec<u8>) -> Self {
        self.0.retain(|(other, _)| *other != id);
        self.0.push((id, bytes));
        self.0.sort_by_key(|(id, _)| if *id == DATA_COUNT { 2 * CODE - 1 } else { 2 * id });
        self
    }

    /// The handler's body, without its end.
    fn handler(self, locals: &[u8], code: &[u8]) -> Self {
        let body = sized(&[locals, code, &[0x0b]].concat());
        let buffer = sized(&[0, 0x42, 0x80, 0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x0b]);
        self.with(CODE, [vec![2], buffer, body].concat())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        for (id, bytes) in &self.0 {
            out.push(*id);
            out.extend(sized(bytes));
        }
        out
    }
}

/// Loads on a small stack and measures; answers what the load said.
fn loaded(name: &str, wasm: Vec<u8>) -> Result<(), String> {
    let size = wasm.len() as u64;
    let (said, heap, took) = on_stack(LOAD_STACK, move || {
        let began = Instant::now();
        let mut said = Ok(());
        let heap = allocation_counter::measure(|| {
            said = load(&wasm).map(drop).map_err(|error: LoadError| error.to_string());
        });
        (said, heap.bytes_max, began.elapsed())
    });
    println!("{name}: {size} bytes, heap {heap} ({:.1}x), {took:?}, {said:?}", heap as f64 / size as f64);
    assert!(heap <= HEAP_FIXED + HEAP_FACTOR * size.min(256 << 10), "{name}: {heap} bytes of heap for {size}");
    // 90 µs per KiB on the reference machine; development builds are twenty times slower, and the machine is shared.
    assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    said
}

#[track_caller]
fn refused(name: &str, module: &Raw, says: &str) {
    match loaded(name, module.bytes()) {
        Err(text) => assert!(text.contains(says), "{name}: `{text}` should say `{says}`"),
        Ok(()) => panic!("{name} was loaded"),
    }
}

#[test]
fn the_module_that_the_bombs_are_built_from_loads() {
    assert_eq!(loaded("good", Raw::good().bytes()), Ok(()));
}

#[test]
fn bombs_of_declarations_are_refused_at_their_ceiling() {
    let const_0 = [0x7f, 0, 0x41, 0, 0x0b];
    let global = |expression: &[u8]| [&[1, 0x7f, 0][..], expression, &[0x0b]].concat();
    let good = Raw::good;
    let bombs: Vec<(&str, Raw, &str)> = vec![
        ("types", good().with(TYPE, many(20_000, &[0x60, 1, 0x7f, 0])), "function types: 20000"),
        ("one type of many parameters", good().with(TYPE, [&[1, 0x60][..], &many(1000, &[0x7f]), &[0]].concat()), ""),
        ("a recursion group of types", good().with(TYPE, [&[1, 0x4e][..], &many(20_000, &[0x60, 0, 0])].concat()), ""),
        ("imports", good().with(IMPORT, many(5_000, b"\x05weir1\x06now_ms\x00\x00")), "imports: 5000"),
        ("functions", good().with(FUNCTION, many(200_000, &[1])), "functions: 200000"),
        (
            "empty functions",
            good().with(FUNCTION, many(60_000, &[1])).with(CODE, many(60_000, &[2, 0, 0x0b])),
            "functions",
        ),
        ("1900 empty functions", empty_functions(1_900), ""),
        ("tables", good().with(TABLE, many(100, &[0x70, 0, 1])), "tables: 100"),
        ("a huge table", good().with(TABLE, vec![1, 0x70, 0, 0x80, 0xad, 0xe2, 0x04]), "table elements: 10000000"),
        ("memories", good().with(MEMORY, many(100, &[0, 1])), "memories: 100"),
        ("a huge memory", good().with(MEMORY, vec![1, 0, 0x80, 0x80, 0x04]), "`limits.memory` grants 256 KiB"),
        ("globals", good().with(GLOBAL, many(20_000, &const_0)), "globals: 20000"),
        ("exports", good().with(EXPORT, many(20_000, b"\x01a\x00\x00")), "exports: 20000"),
        ("a start section", good().with(START, vec![0]), "start section"),
        (
            "element items",
            good().with(ELEMENT, [&[1, 1, 0][..], &many(60_000, &[0])].concat()),
            "element segments: 60000",
        ),
        ("element segments", good().with(ELEMENT, many(20_000, &[1, 0, 0])), "element segments: 20000"),
        ("data segments", good().with(DATA, many(20_000, &[1, 0])), "data segments: 20000"),
        ("an extended constant", good().with(GLOBAL, global(&extended_constant(60_000))), "constant expression: 9"),
        ("a small extended constant", good().with(GLOBAL, global(&extended_constant(2))), "not a module"),
        (
            "a data segment out of bounds",
            good().with(DATA, vec![1, 0, 0x41, 0xff, 0xff, 0x03, 0x0b, 2, 1, 1]),
            "interpreter",
        ),
    ];
    for (name, module, says) in bombs {
        if says.is_empty() {
            // Refused or not, it is bounded.
            let _ = loaded(name, module.bytes());
        } else {
            refused(name, &module, says);
        }
    }
}

fn empty_functions(count: u64) -> Raw {
    let good = Raw::good();
    let mut functions = Vec::new();
    varint(&mut functions, count + 2);
    functions.extend([0, 1]);
    functions.extend(vec![2; count as usize]);
    let mut code = Vec::new();
    varint(&mut code, count + 2);
    let bodies = &good.0.iter().find(|(id, _)| *id == CODE).unwrap().1[1..];
    code.extend_from_slice(bodies);
    (0..count).for_each(|_| code.extend([2, 0, 0x0b]));
    let types = vec![3, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0];
    good.with(TYPE, types).with(FUNCTION, functions).with(CODE, code)
}

fn extended_constant(adds: usize) -> Vec<u8> {
    let mut code = Vec::new();
    (0..=adds).for_each(|_| code.extend([0x41, 1]));
    code.extend(vec![0x6a; adds]);
    code
}

#[test]
fn bombs_of_code_are_refused_at_their_ceiling() {
    let nested = |open: &[u8], count: usize| [open.repeat(count), vec![0x0b; count], vec![0x41, 0]].concat();
    let pile = |item: &[u8], count: usize| [item.repeat(count), vec![0x1a; count], vec![0x41, 0]].concat();
    let none = [0];
    for (name, locals, code, says) in [
        ("nested blocks", &none[..], nested(&[0x02, 0x40], 30_000), "nested blocks of a function: 129"),
        ("nested loops", &none, nested(&[0x03, 0x40], 30_000), "nested blocks"),
        ("nested ifs", &none, nested(&[0x41, 0, 0x04, 0x40], 20_000), "nested blocks"),
        ("a pile of constants", &none, pile(&[0x41, 1], 40_000), "operand stack of a function: 1025"),
        ("a pile of locals", &none, pile(&[0x20, 0], 40_000), "operand stack"),
        ("locals", &[1, 0xd0, 0x86, 0x03, 0x7f], vec![0x41, 0], "locals of a function: 50000"),
        ("groups of locals", &many(30_000, &[0, 0x7f]), vec![0x41, 0], "groups of locals"),
    ] {
        refused(name, &Raw::good().handler(locals, &code), says);
    }
    let targets = [&[0x41, 0, 0x0e][..], &many(60_000, &[0]), &[0, 0x41, 0]].concat();
    refused("a br_table", &Raw::good().handler(&none, &targets), "targets of a br_table: 60000");
}

#[test]
fn what_passes_the_scan_at_its_ceiling_loads_in_bounded_heap() {
    let none = [0];
    let blocks = [[0x02, 0x40].repeat(120), vec![0x0b; 120]].concat();
    let ifs = [[0x41, 0, 0x04, 0x40].repeat(120), vec![0x0b; 120]].concat();
    let pile = [[0x20, 0].repeat(1000), vec![0x1a; 1000]].concat();
    let branch = [&[0x02, 0x40, 0x41, 0, 0x0e][..], &many(4000, &[0]), &[0, 0x0b]].concat();
    // Parameters of blocks: type 2 has 32 of them in and out.
    let wide = [many(32, &[0x7f]), many(32, &[0x7f])].concat();
    let types = [&[3, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60][..], &wide].concat();
    let carry = [[0x41, 0].repeat(32), [0x02, 0x02, 0x0b].repeat(20_000), vec![0x1a; 32]].concat();
    for (name, code, times) in [
        ("many nested blocks", blocks, 200),
        ("many nested ifs", ifs, 100),
        ("many piles", pile, 60),
        ("many br_tables", branch, 4),
        ("many nops", vec![0x01], 200_000),
        ("many growths", vec![0x41, 1, 0x40, 0, 0x1a], 30_000),
        ("many branches out", vec![0x02, 0x40, 0x0c, 0, 0x0b], 30_000),
        ("carried parameters", carry, 1),
    ] {
        let code = [code.repeat(times), vec![0x41, 0]].concat();
        let module = Raw::good().with(TYPE, types.clone()).handler(&none, &code);
        let said = loaded(name, module.bytes());
        assert!(said.is_ok(), "{name}: {said:?}");
    }
    let data = [&[1, 0, 0x41, 0, 0x0b][..], &sized(&vec![7; 60_000])].concat();
    assert_eq!(loaded("a big data segment", Raw::good().with(DATA, data).bytes()), Ok(()));
    let custom = sized(&[&b"\x04name"[..], &sized(&[1; 100_000])].concat());
    let with_names = [Raw::good().bytes(), vec![0], custom].concat();
    assert_eq!(loaded("a broken name section", with_names), Ok(()));
}

#[test]
fn a_million_functions_are_too_large_to_be_looked_at() {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    for (id, item) in [(FUNCTION, &[0u8][..]), (CODE, &[2, 0, 0x0b])] {
        wasm.push(id);
        wasm.extend(sized(&many(1_000_000, item)));
    }
    let said = loaded("a million functions", wasm).unwrap_err();
    assert!(said.contains("the gateway takes 256 KiB"), "{said}");
}

/// A caller that takes larger modules is protected by the counts: they are known before anything is made of them.
#[test]
fn a_million_functions_are_refused_by_their_count_where_size_would_let_them_pass() {
    let good = Raw::good();
    let bodies = good.0.iter().find(|(id, _)| *id == CODE).unwrap().1[1..].to_vec();
    let mut functions = Vec::new();
    varint(&mut functions, 1_000_002);
    functions.extend([0, 1]);
    functions.extend(vec![2; 1_000_000]);
    let mut code = Vec::new();
    varint(&mut code, 1_000_002);
    code.extend(bodies);
    (0..1_000_000).for_each(|_| code.extend([2, 0, 0x0b]));
    let types = vec![3, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0];
    let wasm = good.with(TYPE, types).with(FUNCTION, functions).with(CODE, code).bytes();
    on_stack(LOAD_STACK, move || {
        let mut said = String::new();
        let heap = allocation_counter::measure(|| {
            let loaded =
                Function::load(&manifest(), &wasm, Bytes::mib(16), &Pool::new(Bytes::mib(1)), &mut Clock::start());
            said = loaded.map_or_else(|error| error.to_string(), |_| "it loads".to_owned());
        });
        assert!(said.contains("functions: 1000002"), "{said}");
        assert!(heap.bytes_max < 1 << 20, "{} bytes of heap for {}", heap.bytes_max, wasm.len());
    });
}

#[test]
fn data_segments_are_bounded_by_the_memory_they_are_for() {
    let at = |offset: i64, len: usize| {
        let mut segment = vec![0, 0x41];
        signed(&mut segment, offset);
        segment.push(0x0b);
        segment.extend(sized(&vec![7; len]));
        segment
    };
    let segments = |list: &[Vec<u8>]| [vec![list.len() as u8], list.concat()].concat();
    for (name, list, fits) in [
        ("as large as the memory", vec![at(0, 65_536)], true),
        ("one byte beyond it", vec![at(1, 65_536)], false),
        ("three times the memory", vec![at(0, 200_000)], false),
        ("at a negative place", vec![at(-1, 1)], false),
        ("the same place many times", vec![at(0, 2000); 100], true),
        ("empty, at the end", vec![at(65_536, 0)], true),
        ("empty, behind the end", vec![at(65_537, 0)], false),
    ] {
        let said = loaded(name, Raw::good().with(DATA, segments(&list)).bytes());
        assert_eq!(said.is_ok(), fits, "{name}: {said:?}");
    }
    // Passive ones take no memory of the guest's, and are bounded by the size of the module.
    let passive = [&[1, 1][..], &sized(&vec![7; 200_000])].concat();
    assert_eq!(loaded("a giant passive segment", Raw::good().with(DATA, passive).bytes()), Ok(()));
    // A count of segments that are not there.
    let lying = Raw::good().with(DATA_COUNT, vec![200, 1]).with(DATA, vec![1, 0, 0x41, 0, 0x0b, 1, 1]);
    assert!(loaded("a lying count", lying.bytes()).is_err());
}

#[test]
fn names_are_cut_and_long_or_odd_ones_cost_nothing_but_themselves() {
    // Function 0 and 1 with names of 40,000 bytes, one of them full of escapes for a terminal.
    let (plain, odd) = ("n".repeat(40_000), "\u{1b}[2J\n".repeat(8_000));
    let mut map = vec![2];
    for (index, name) in [(0, plain), (1, odd)] {
        map.push(index);
        map.extend(sized(name.as_bytes()));
    }
    for map in [map.clone(), map[..30_000].to_vec()] {
        let names = sized(&[&b"\x04name\x01"[..], &sized(&map)].concat());
        let wasm = [Raw::good().handler(&[0], &[0x00]).bytes(), vec![0], names].concat();
        let (text, heap) = on_stack(LOAD_STACK, move || {
            let mut function = load(&wasm).unwrap();
            let mut text = String::new();
            let heap = allocation_counter::measure(|| {
                let outcome = function.call(&Invocation::default(), &Fields::new(), &mut Clock::start());
                text = outcome.unwrap_err().to_string();
            });
            (text, heap.bytes_max)
        });
        assert!(text.len() < 1000 && !text.contains(['\u{1b}', '\n']) && heap < 64 << 10, "{heap}: {text}");
    }
}

#[test]
fn cut_and_flipped_modules_never_end_the_process() {
    let whole = Raw::good().bytes();
    on_stack(LOAD_STACK, move || {
        for at in 0..whole.len() {
            let _ = load(&whole[..at]);
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = load(&broken);
            }
        }
    });
}
