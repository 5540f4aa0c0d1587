//! Not an example: what the tests ask of the SDK and no example does. The field `do` says what.
#![no_std]

use weir_sdk::prelude::*;

weir_sdk::function! {
    fields { what: Field = "do", value: Field = "value", open: Flag = "open" }
    on_event = handle;
}

fn handle(function: &Function, event: &Event) -> Result<Verdict, Error> {
    let mut space = [0; 16];
    let shown = match function.what.read(event, &mut space)? {
        b"panic" => text!(64; unit_of(b"furlong")),
        b"index" => text!(64; third(event.device())),
        b"lend twice" => OUTER.with(|_| OUTER.with(|text| *text)),
        b"flag" => match function.open.get(event) {
            Some(open) => text!(64; "open: ", open),
            None => text!(64; "neither"),
        },
        b"integer" => text!(64; function.value.integer(event)?),
        b"boolean" => text!(64; function.value.boolean(event)?),
        b"number" => match function.value.number(event) {
            Some(number) => text!(64; number),
            None => text!(64; "none"),
        },
        b"look up" => {
            let (mut space, number) = ([0; 16], event.lookup("deep[1].n"));
            text!(64; event.lookup_text("deep[1].t", &mut space)?, " ", number.unwrap_or(-1.0))
        }
        b"numbers" => numbers(function.value.numbers(event, &mut [0.0; 4])?),
        b"show" => {
            text!(64; f64::NAN, " ", -0.0, " ", 0.1 + 0.2, " ", 1e300, " ", Fixed(-0.004, 2), " ", Fixed(2.5, 12))
        }
        _ => return Ok(Verdict::Drop),
    };
    emit!(["said"], [shown])?;
    Ok(Verdict::Done)
}

static OUTER: Scratch<Text<64>> = Scratch::new(Text::new());

#[inline(never)]
fn unit_of(name: &[u8]) -> u32 {
    match name {
        b"metre" => 1,
        b"foot" => 2,
        _ => panic!("no such unit"),
    }
}

#[inline(never)]
fn third(text: &[u8]) -> u8 {
    text[2]
}

fn numbers(numbers: &[f64]) -> Text<64> {
    let mut text = Text::new();
    for number in numbers {
        text.push(&(*number, ";"));
    }
    text
}
