//! What others say, without what they say it with.

use candle_core::Error;

/// The most characters of a message from elsewhere.
const LONGEST: usize = 300;

/// The first line of a message from elsewhere, shortened where it is long: behind it come backtraces and the contents of tensors.
pub fn first_line(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_string(),
    }
}

/// What candle says, without its backtrace.
pub(super) fn brief(error: &Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } => brief(inner),
        Error::Context { inner, context } => format!("{}: {}", first_line(&context.to_string()), brief(inner)),
        Error::WithPath { inner, path } => format!("{}: {}", path.display(), brief(inner)),
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
    }
}
