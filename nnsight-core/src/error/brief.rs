//! What others say, without what they say it with.

use candle_core::Error;

/// The most characters of a message from elsewhere.
const LONGEST: usize = 300;

/// The longest list that is shown: the sizes of a tensor, but not its entries.
const LIST: usize = 60;

/// The first line of a message from elsewhere, shortened if it is long: after it come backtraces and the contents of tensors.
pub fn first_line(message: &str) -> String {
    let mut rest = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut line = String::new();
    while let Some(open) = rest.find('[') {
        let close = rest[open..].find(']').map_or(rest.len(), |close| open + close);
        line += &rest[..=open];
        let list = &rest[open + 1..close];
        line += if list.len() <= LIST { list } else { "…" };
        rest = &rest[close..];
    }
    line += rest;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// What an error says, of candle without its backtrace.
#[doc(hidden)]
pub fn brief(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<Error>() {
        Some(error) => of_candle(error),
        None => first_line(&error.to_string()),
    }
}

fn of_candle(error: &Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } => of_candle(inner),
        Error::Context { inner, context } => format!("{}: {}", first_line(&context.to_string()), of_candle(inner)),
        Error::WithPath { inner, path } => format!("{}: {}", path.display(), of_candle(inner)),
        Error::WrappedContext { wrapped, context } => format!("{}: {}", first_line(context), first_line(&wrapped.to_string())),
        other => first_line(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_candle_comes_without_its_backtrace_and_in_one_line() {
        let error = |message: &str| Error::Msg(message.to_string());
        let traced = Error::WithBacktrace { inner: Box::new(error("it failed")), backtrace: Box::new(std::backtrace::Backtrace::force_capture()) };
        assert_eq!(brief(&traced), "it failed");
        assert_eq!(brief(&error("\n[[1.0, 2.0],\n [3.0, 4.0]]\nTensor[[2, 2], f32]")), "[[1.0, 2.0],");
        assert_eq!(brief(&error("inner").context("outer\nmore")), "outer: inner");
        assert_eq!(brief(&error("inner").with_path("a/b")), "a/b: inner");
        assert_eq!(first_line(&"x".repeat(301)), format!("{} …", "x".repeat(300)));
        assert_eq!(first_line(""), "");
        assert_eq!(first_line(&format!("unsupported F32({:?}) here", vec![0.5; 1000])), "unsupported F32([…]) here");
        assert_eq!(first_line("shapes [2, 3] and [4, 5] differ"), "shapes [2, 3] and [4, 5] differ");
        assert_eq!(first_line("an open [ list"), "an open [ list");
    }
}
