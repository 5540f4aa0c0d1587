//! `function!`, `emit!` and `log!`.

/// Declares the function: what it reads, what it meters, its settings and handlers. Every part may be left out but one
/// handler; the order is fixed.
///
/// ```no_run
/// # #![allow(unexpected_cfgs)]
/// use weir_sdk::prelude::*;
///
/// weir_sdk::function! {
///     fields { temp: Number = "temp" }
///     on_event = handle;
/// }
///
/// fn handle(function: &Function, event: &Event) -> Verdict {
///     Verdict::keep_if(function.temp.get(event).is_some_and(|temp| temp > 20.0))
/// }
/// # fn main() {}
/// ```
///
/// All parts:
///
/// ```no_run
/// # #![allow(unexpected_cfgs)]
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! {
///     manifest "[[meter]]\nname = \"energy\"\nkind = \"counter\"\n[config]\nhigh = 80.0\nunit = \"C\"";
///     buffer 1024;                                  // bytes for header, fields, topic, device and payload; default 512
///     wants payload, device;                        // what is copied; default topic, device
///     fields { temp: Number = "temp", name: Field = "meta.name", bare: Number = "." }
///     meters { energy: Counter = "energy" }         // Counter, Gauge, Distribution; a [[meter]] of that kind in the manifest
///     state { last: State<(f64, i64)> = "last" }
///     config { high: f64 = 80.0, unit: Text<8> = "C" }   // must stand in the manifest's [config]
///     on_start = check;                             // fn(&Function) -> Result<(), &'static str>: Err refuses the load
///     on_event = handle;                            // fn(&Function, &Event) -> Verdict, or -> Result<Verdict, Error>
///     on_interval = tick;                           // fn(&Function, &Interval) -> the same
/// }
/// # fn check(_: &Function) -> Result<(), &'static str> { Ok(()) }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn tick(_: &Function, _: &Interval) -> Verdict { Verdict::Done }
/// # fn main() {}
/// ```
///
/// Without `manifest`, which is for tests, it is the file `function.toml` beside `Cargo.toml`.
///
/// What is wrong does not compile: a path that is none,
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! { fields { temp: Number = "temp..c" } on_event = handle; }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
///
/// a function without a handler,
///
/// ```compile_fail
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! { fields { temp: Number = "temp" } }
/// # fn main() {}
/// ```
///
/// a buffer that is too small for the fields,
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! { buffer 192; fields { temp: Number = "temp" } on_event = handle; }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
///
/// a wish for what no event has,
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! { wants payloads; on_event = handle; }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
///
/// fields in an interval,
///
/// ```compile_fail,E0308
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! { fields { temp: Number = "temp" } on_interval = tick; }
/// fn tick(function: &Function, interval: &Interval) -> Verdict {
///     let _ = function.temp.get(interval);
///     Verdict::Done
/// }
/// # fn main() {}
/// ```
///
/// a meter that the manifest does not name (here it is the function that has the name), or names with another kind,
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! {
///     manifest "name = \"energy\"\n[[meter]]\nname = \"e\"\nkind = \"counter\"";
///     meters { energy: Counter = "energy" } on_event = handle;
/// }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! {
///     manifest "[[meter]]\nname = \"energy\"\nkind = \"gauge\"";
///     meters { energy: Counter = "energy" } on_event = handle;
/// }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
///
/// or a setting that is not in `[config]`.
///
/// ```compile_fail,E0080
/// # use weir_sdk::prelude::*;
/// weir_sdk::function! {
///     manifest "[[meter]]\nname = \"e\"\nkind = \"gauge\"\nwindow = \"1 s\"\n[config]\nhigh = 80.0";
///     config { window: f64 = 1.0 } on_event = handle;
/// }
/// # fn handle(_: &Function, _: &Event) -> Verdict { Verdict::Drop }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! function {
    (
        $(manifest $manifest:literal;)?
        $(buffer $buffer:literal;)?
        $(wants $($want:ident),+;)?
        $(fields { $($field:ident : $field_type:ty = $path:literal),* $(,)? })?
        $(meters { $($meter:ident : $meter_type:ty = $meter_name:literal),* $(,)? })?
        $(state { $($state:ident : $state_type:ty = $state_name:literal),* $(,)? })?
        $(config { $($setting:ident : $setting_type:ty = $default:expr),* $(,)? })?
        $(on_start = $on_start:expr;)?
        $(on_event = $on_event:expr;)?
        $(on_interval = $on_interval:expr;)?
    ) => {
        /// What the function was given when it started.
        #[allow(missing_docs)]
        pub struct Function {
            $($(pub $field: $field_type,)*)?
            $($(pub $meter: $meter_type,)*)?
            $($(pub $state: $state_type,)*)?
            $($(pub $setting: $setting_type,)*)?
        }

        const _: () = {
            const _: () = {
                // Only where it is asked for: a function without meters and settings needs no manifest to compile.
                #[allow(unused_macros)]
                macro_rules! manifest {
                    () => {
                        $crate::__manifest!($($manifest)?)
                    };
                }
                $($($crate::check::path($path);)*)?
                $($({
                    let kind = <$meter_type as $crate::meter::Register>::KIND;
                    match $crate::check::meter(manifest!(), $meter_name, kind) {
                        $crate::check::Declared::Here => {}
                        $crate::check::Declared::OtherKind => panic!(concat!(
                            "function.toml has the meter `", $meter_name, "` with another kind than ",
                            stringify!($meter_type)
                        )),
                        $crate::check::Declared::Nowhere => {
                            panic!(concat!("function.toml has no [[meter]] with name = \"", $meter_name, "\""))
                        }
                    }
                })*)?
                $($(assert!(
                    $crate::check::setting(manifest!(), stringify!($setting)),
                    concat!("function.toml has no `", stringify!($setting), "` in [config]")
                );)*)?
                $(let _wants = 0 $(| $crate::event::want_bit(stringify!($want)))+;)?
                let numbers: usize = 0 $($(+ <$field_type as $crate::field::Bind>::NUMBERS)*)?;
                assert!(numbers <= 64, "at most 64 fields can be a `Number`");
                assert!(64 + 8 * numbers + 128 <= BUFFER_LEN, "`buffer` is too small for this many fields");
                $crate::__a_handler!($($on_event)? $($on_interval)?);
            };
            const BUFFER_LEN: usize = $crate::__or_512!($($buffer)?);
            static BUFFER: $crate::raw::Buffer<BUFFER_LEN> = $crate::raw::Buffer::new();
            static FUNCTION: $crate::raw::Slot<Function> = $crate::raw::Slot::new();

            // The host reads the version in this body, so it is a constant and nothing else.
            #[unsafe(no_mangle)]
            extern "C" fn weir_abi() -> i32 {
                $crate::raw::VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn weir_buf() -> i64 {
                BUFFER.address()
            }

            #[unsafe(no_mangle)]
            extern "C" fn on_start() -> i32 {
                $($crate::event::want(const { 0 $(| $crate::event::want_bit(stringify!($want)))+ });)?
                FUNCTION.set(Function {
                    $($($field: match <$field_type as $crate::field::Bind>::bind($path) {
                        Ok(field) => field,
                        Err(_) => $crate::config::refuse(concat!("cannot bind field `", $path, "`")),
                    },)*)?
                    $($($meter: match <$meter_type as $crate::meter::Register>::register($meter_name) {
                        Ok(meter) => meter,
                        Err(_) => $crate::config::refuse(concat!("the manifest has no meter `", $meter_name, "`")),
                    },)*)?
                    $($($state: const { $crate::state::State::named($state_name) },)*)?
                    $($($setting: match <$setting_type as $crate::config::Setting<_>>::read(stringify!($setting), $default) {
                        Some(setting) => setting,
                        None => $crate::config::refuse(concat!(
                            "config `", stringify!($setting), "` is not a valid ", stringify!($setting_type)
                        )),
                    },)*)?
                });
                $(
                    let check: fn(&Function) -> Result<(), &'static str> = $on_start;
                    if let Err(why) = check(FUNCTION.get()) {
                        $crate::config::refuse(why)
                    }
                )?
                0
            }

            $(#[unsafe(no_mangle)]
            extern "C" fn on_event(event: u32) -> i32 {
                $crate::answer::Answer::into_code($on_event(FUNCTION.get(), &$crate::event::Event::at(event)))
            })?

            $(#[unsafe(no_mangle)]
            extern "C" fn on_interval(event: u32) -> i32 {
                $crate::answer::Answer::into_code($on_interval(FUNCTION.get(), &$crate::event::Interval::at(event)))
            })?
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __or_512 {
    () => {
        512
    };
    ($buffer:literal) => {
        $buffer
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __a_handler {
    () => {
        compile_error!("a function needs `on_event = ..;` or `on_interval = ..;`")
    };
    ($($handler:expr)+) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __manifest {
    () => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/function.toml"))
    };
    ($manifest:literal) => {
        $manifest
    };
}

/// Emits: `emit!(["alerts/", event.device()], ["{\"temp\":", temp, "}"])?`. Topic up to 128 bytes, payload up to 512; for
/// more, fill a [`Text`](crate::text::Text) and call [`emit`](crate::event::emit()).
#[macro_export]
macro_rules! emit {
    ([$($topic:expr),+ $(,)?], [$($payload:expr),* $(,)?]) => {
        $crate::event::emit_with(|topic, payload| {
            $($crate::text::Show::show(&$topic, topic);)+
            $($crate::text::Show::show(&$payload, payload);)*
        })
    };
}

/// Logs: `log!(info, "boiler ", event.device(), " is at ", temp)`. Cut at 160 bytes and at the manifest's limit.
#[macro_export]
macro_rules! log {
    ($level:ident, $($part:expr),+ $(,)?) => {
        $crate::event::log_with($crate::event::Level::$level, |text| {
            $($crate::text::Show::show(&$part, text);)+
        })
    };
}
