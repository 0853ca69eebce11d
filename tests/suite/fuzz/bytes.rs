//! Graphs as bytes, with some of them changed.

use nnsight::prelude::*;

use super::check::Subject;
use super::numbers::Numbers;
use super::seeds::seeds;

/// A stored graph with some bytes changed, if it still is one.
pub fn change(numbers: &mut Numbers, subjects: &[Subject]) -> Option<(usize, Graph)> {
    let (subject, seed) = numbers.pick(seeds(subjects))?;
    let as_text = numbers.once_in(2);
    let mut bytes = match as_text {
        true => seed.json.clone().into_bytes(),
        false => seed.msgpack.clone(),
    };
    for _ in 0..1 + numbers.below(3) {
        change_one(numbers, &mut bytes, as_text);
    }
    let graph = match as_text {
        true => Graph::from_json(&String::from_utf8_lossy(&bytes)),
        false => Graph::from_msgpack(&bytes),
    };
    graph.ok().map(|graph| (*subject, graph))
}

fn change_one(numbers: &mut Numbers, bytes: &mut Vec<u8>, as_text: bool) {
    if bytes.is_empty() {
        return;
    }
    let at = numbers.below(bytes.len());
    match numbers.below(6) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at] = numbers.next() as u8,
        // Digits become others: ids, axes and sizes.
        2 | 3 => {
            let digits = bytes.iter().enumerate().filter(|(_, byte)| if as_text { byte.is_ascii_digit() } else { **byte < 16 });
            let digits = digits.map(|(at, _)| at).collect::<Vec<_>>();
            if let Some(&at) = numbers.pick(&digits) {
                bytes[at] = if as_text { b'0' + numbers.below(10) as u8 } else { numbers.below(16) as u8 };
            }
        }
        4 => {
            let end = (at + 1 + numbers.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            let end = (at + 1 + numbers.below(32)).min(bytes.len());
            let copied = bytes[at..end].to_vec();
            bytes.splice(at..at, copied);
        }
    }
}
