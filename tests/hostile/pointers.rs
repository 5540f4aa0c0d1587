//! Lying pointers in every host call: the table of calls is `Call::ALL`, the meaning of their parameters is read from the ABI's
//! document, so that a new call is either covered or fails here.

use std::fmt::Write as _;

use weir::field::{Codec, Fields, Paths};
use weir::function::host::Call;
use weir::function::{CallError, Function, Invocation, LoadError, MODULE_BYTES_MAX, Pool};
use weir::units::Bytes;

use super::{CALL_STACK, Clock, manifest, on_stack};

/// The guest's memory: one page.
const MEMORY: u32 = 65_536;
/// A piece of memory that is fit for every parameter: text of 16 bytes.
const GOOD: (u32, u32) = (64, 5);

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Pointer,
    /// The length of what the pointer before it points at, in units of so many bytes.
    Length(u32),
    Scalar,
}

/// A call's parameters as `functions/abi/README.md` names them.
fn documented(call: Call) -> Vec<String> {
    let document = include_str!("../../functions/abi/README.md");
    let row = format!("| `{}` | `(", call.name());
    let rest = document.split(row.as_str()).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{} has no row in functions/abi/README.md", call.name()));
    let list = rest.split(')').next().unwrap_or_default();
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn roles(call: Call) -> Vec<Role> {
    let names = documented(call);
    let (params, _) = call.signature();
    assert_eq!(names.len(), params.len(), "{}: {names:?}", call.name());
    let role = |name: &str| match (name.split(' ').next().unwrap_or_default(), call.name()) {
        ("path" | "name" | "topic" | "key" | "ptr" | "dst" | "out", _) => Role::Pointer,
        ("cap", "field_f64s") => Role::Length(8),
        ("len" | "cap", _) => Role::Length(1),
        ("id" | "bits" | "off" | "value" | "default" | "f64" | "decimals" | "level", _) => Role::Scalar,
        (other, call) => panic!("{call}: say here whether `{other}` is a pointer, a length or neither"),
    };
    let roles: Vec<Role> = names.iter().map(|name| role(name)).collect();
    for (index, role) in roles.iter().enumerate() {
        if matches!(role, Role::Length(_)) {
            assert_eq!(index.checked_sub(1).map(|before| roles[before]), Some(Role::Pointer), "{}", call.name());
        }
    }
    roles
}

/// A guest that makes one call with the arguments that lie at the payload's front: 8 bytes each.
fn caller(call: Call, in_start: Option<&[i64]>) -> Vec<u8> {
    let (params, results) = call.signature();
    let (mut types, mut loads, mut constants) = (String::new(), String::new(), String::new());
    for (index, ty) in params.iter().enumerate() {
        let _ = write!(types, " {ty}");
        let _ = write!(loads, "({ty}.load (i32.add (i32.load offset=32 (local.get $ev)) (i32.const {})))", index * 8);
        let value = in_start.map_or(0, |values| values[index]);
        let _ = match ty.to_string().as_str() {
            "f64" => write!(constants, "(f64.const {value})"),
            ty => write!(constants, "({ty}.const {value})"),
        };
    }
    let result: String = results.iter().map(|ty| format!(" {ty}")).collect();
    let drop = if results.is_empty() { "" } else { "(drop)" };
    let start = match in_start {
        Some(_) => format!("{constants} (call $call) {drop} (i32.const 0)"),
        None => "(call $want (i32.const 1))".to_owned(),
    };
    // `want` itself is imported twice where it is the call: that is allowed.
    let text = format!(
        r#"(module (import "weir1" "{name}" (func $call (param{types}) (result{result})))
             (import "weir1" "want" (func $want (param i32) (result i32)))
             (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1))
             (data (i32.const 64) "out/a text of 16")
             (func (export "weir_buf") (result i64) (i64.const 0x0000040000000400))
             (func (export "on_start") (result i32) {start})
             (func (export "on_event") (param $ev i32) (result i32) {loads} (call $call) {drop} (i32.const 0)))"#,
        name = call.name(),
    );
    let text = text.replace("(param)", "").replace("(result)", "");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Arguments that are fit for the call.
fn good(roles: &[Role]) -> Vec<i64> {
    let value = |role: &Role| match role {
        Role::Pointer => i64::from(GOOD.0),
        Role::Length(_) => i64::from(GOOD.1),
        Role::Scalar => 0,
    };
    roles.iter().map(value).collect()
}

/// The arguments as the payload holds them. An f64's bits are its number's.
fn payload(call: Call, arguments: &[i64]) -> Vec<u8> {
    let (params, _) = call.signature();
    let bytes = |(ty, value): (&_, &i64)| match format!("{ty}").as_str() {
        "f64" => (*value as f64).to_le_bytes(),
        _ => value.to_le_bytes(),
    };
    params.iter().zip(arguments).flat_map(bytes).collect()
}

struct Rig {
    function: Function,
    call: Call,
}

impl Rig {
    fn new(call: Call) -> Self {
        let load = Function::load(
            &manifest(),
            &caller(call, None),
            MODULE_BYTES_MAX,
            &Pool::new(Bytes::mib(1)),
            &mut Clock::start(),
        );
        Self { function: load.unwrap_or_else(|error| panic!("{}: {error}", call.name())), call }
    }

    fn call(&mut self, arguments: &[i64]) -> Result<(), CallError> {
        let payload = payload(self.call, arguments);
        // The payload is what the guest is told to do, and no document: the fields are those of another.
        let (paths, mut fields) = (Paths::new(), Fields::new());
        paths.scan(Codec::Raw, &payload, &mut fields).unwrap();
        let invocation = Invocation { topic: "in/a", payload: &payload, codec: Codec::Raw, ..Invocation::default() };
        self.function.call(&invocation, &fields, &mut Clock::start()).map(drop)
    }
}

/// Ranges that do not lie within the memory: pointer and length in bytes.
fn lies() -> Vec<(u32, u32)> {
    let mut lies =
        vec![(MEMORY, 1), (MEMORY - 1, 2), (u32::MAX, 1), (0, MEMORY + 1), (0, u32::MAX), (1 << 31, 1 << 31)];
    // Sums that wrap to a small number.
    lies.extend([(8, u32::MAX - 7), (u32::MAX - 7, 8), (u32::MAX, u32::MAX)]);
    lies
}

fn traps(call: Call, arguments: &[i64], outcome: Result<(), CallError>) {
    match outcome {
        Err(CallError::Trapped { what, .. }) => {
            assert!(what.contains("outside the memory"), "{}{arguments:?}: {what}", call.name());
        }
        other => panic!("{}{arguments:?}: {other:?} instead of a trap", call.name()),
    }
}

/// The places of a pointer and of its length, if it has one.
fn ranges(roles: &[Role]) -> impl Iterator<Item = (usize, Option<u32>)> + '_ {
    let pointers = roles.iter().enumerate().filter(|(_, role)| **role == Role::Pointer);
    pointers.map(|(at, _)| match roles.get(at + 1) {
        Some(Role::Length(unit)) => (at, Some(*unit)),
        _ => (at, None),
    })
}

#[test]
fn every_range_of_every_host_call_is_held_against_the_memory() {
    on_stack(CALL_STACK, || {
        let mut held = 0;
        for call in Call::ALL {
            let roles = roles(*call);
            let mut rig = Rig::new(*call);
            let fit = good(&roles);
            // What is fit does not trap, or the table would prove nothing; `abort` ends by its text.
            match rig.call(&fit) {
                Ok(()) => {}
                Err(CallError::Aborted { .. }) if *call == Call::Abort => {}
                Err(error) => panic!("{}{fit:?}: {error}", call.name()),
            }
            for (at, unit) in ranges(&roles) {
                for (pointer, len) in lies() {
                    let mut arguments = fit.clone();
                    arguments[at] = i64::from(pointer);
                    match unit {
                        Some(unit) => arguments[at + 1] = i64::from(len.div_ceil(unit)),
                        // Eight bytes are written, wherever it points.
                        None if pointer < MEMORY - 8 => continue,
                        None => {}
                    }
                    traps(*call, &arguments, rig.call(&arguments));
                    held += 1;
                }
                // The empty range at the memory's end is within it.
                if unit.is_some() {
                    let mut arguments = fit.clone();
                    (arguments[at], arguments[at + 1]) = (i64::from(MEMORY), 0);
                    assert!(
                        !matches!(rig.call(&arguments), Err(CallError::Trapped { .. })),
                        "{}{arguments:?}",
                        call.name()
                    );
                }
            }
        }
        println!("{held} lies in {} host calls", Call::ALL.len());
        assert!(200 < held, "{held}");
    });
}

#[test]
fn a_lie_in_on_start_refuses_the_load() {
    on_stack(CALL_STACK, || {
        for call in Call::ALL {
            let roles = roles(*call);
            let first = ranges(&roles).next();
            let Some((at, unit)) = first else { continue };
            let mut arguments = good(&roles);
            arguments[at] = -1;
            if unit.is_some() {
                arguments[at + 1] = 1;
            }
            let wasm = caller(*call, Some(&arguments));
            let pool = Pool::new(Bytes::mib(1));
            match Function::load(&manifest(), &wasm, MODULE_BYTES_MAX, &pool, &mut Clock::start()) {
                Err(LoadError::StartFailed(error)) => traps(*call, &arguments, Err(*error)),
                other => panic!("{}: {other:?}", call.name()),
            }
            assert_eq!(pool.granted(), Bytes(0));
        }
    });
}

/// All combinations of odd numbers in all parameters of all calls: whatever comes of it, it is an answer or one of the known ends.
#[test]
fn no_combination_of_odd_arguments_ends_anything_but_the_call() {
    const ODD: [i64; 7] = [0, 5, 64, 65_535, 65_536, 0x7fff_ffff, -1];
    on_stack(CALL_STACK, || {
        let mut calls = 0;
        for call in Call::ALL {
            let roles = roles(*call);
            let mut rig = Rig::new(*call);
            let combinations = ODD.len().pow(roles.len() as u32);
            for number in 0..combinations {
                let digit = |place: usize| ODD[number / ODD.len().pow(place as u32) % ODD.len()];
                let arguments: Vec<i64> = (0..roles.len()).map(digit).collect();
                if let Err(error) = rig.call(&arguments) {
                    let text = error.to_string();
                    assert!(!text.contains("panicked"), "{}{arguments:?}: {text}", call.name());
                    assert!(
                        matches!(
                            error,
                            CallError::Trapped { .. } | CallError::Aborted { .. } | CallError::OutOfFuel { .. }
                        ),
                        "{}{arguments:?}: {text}",
                        call.name()
                    );
                }
                calls += 1;
            }
            assert!(rig.function.broken().is_none(), "{}: {:?}", call.name(), rig.function.broken());
        }
        println!("{calls} calls");
    });
}

/// The same in the middle of nowhere: a call through a table, and imports that are exports.
#[test]
fn host_calls_are_no_way_around_the_border() {
    on_stack(CALL_STACK, || {
        let load = |body: &str| {
            let text = format!(
                r#"(module (import "weir1" "field_kind" (func $kind (param i32) (result i32)))
                     (import "weir1" "now_ms" (func $now (result i64)))
                     (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
                     (memory (export "memory") 1) (global (export "weir_abi") i32 (i32.const 1)) {body})"#
            );
            let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            Function::load(&manifest(), &wasm, MODULE_BYTES_MAX, &Pool::new(Bytes::mib(1)), &mut Clock::start())
        };
        let buffer = r#"(func (export "weir_buf") (result i64) (i64.const 0x0000040000000400))"#;
        // A host call as the handler: it answers a code, which is an error of the handler.
        let mut function = load(&format!(r#"{buffer} (export "on_event" (func $kind))"#)).unwrap();
        let outcome = function.call(&Invocation::default(), &Fields::new(), &mut Clock::start());
        assert!(matches!(outcome, Err(CallError::Refused { code: -2, .. })), "{outcome:?}");
        // A host call as the buffer: it answers 0, which is no buffer.
        let handler = r#"(func (export "on_event") (param i32) (result i32) (i32.const 0))"#;
        let refused = load(&format!(r#"(export "weir_buf" (func $now)) {handler}"#));
        assert!(matches!(refused, Err(LoadError::Buffer { .. })), "{refused:?}");
        // A host call through a table, with a pointer that lies.
        let mut function = load(&format!(
            r#"{buffer} (type $t (func (param i32 i32 i32 i32) (result i32))) (table 1 funcref) (elem (i32.const 0) $emit)
               (func (export "on_event") (param i32) (result i32)
                 (call_indirect (type $t) (i32.const -1) (i32.const -1) (i32.const -1) (i32.const -1) (i32.const 0)))"#
        ))
        .unwrap();
        traps(Call::Emit, &[], function.call(&Invocation::default(), &Fields::new(), &mut Clock::start()).map(drop));
    });
}
