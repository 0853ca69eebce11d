//! Prompts: what a language model is run on.

use std::fmt::{Display, Formatter};

use nnsight_core::graph::{Constant, Input, InputPart};
use nnsight_core::types::Tensor;

use crate::{Chat, Hidden, Message, Seq};

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Text, which the model's tokenizer splits.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
    /// Token ids of which some are hidden from every other position, as with an `attention_mask` that has zeros.
    ///
    /// Positions are counted over the tokens that are seen, on every architecture, as transformers' `generate` counts them: the position of a
    /// seen token is the number of seen tokens before it (`attention_mask.cumsum(-1) - 1`), that of a hidden one is 0, and the first
    /// generated token follows the last seen one. Hidden tokens therefore change nothing at the others: with `9` hidden, `[5, 9, 7]`
    /// has the outputs of `[5, 7]` at `5` and `7`.
    Masked {
        /// The ids.
        tokens: Vec<u32>,
        /// For each token whether it is seen.
        seen: Vec<bool>,
    },
    /// What the model reads in place of its own embeddings of tokens, of shape `(Seq, Hidden)`.
    Embeddings(Constant),
    /// A conversation, for which the model's chat template finds the words.
    Chat(Chat),
}

/// The names of a prompt's parts.
const TEXT: &str = "text";
const TOKENS: &str = "tokens";
const SEEN: &str = "seen";
const EMBEDDINGS: &str = "embeddings";
const CHAT: &str = "chat";

impl From<Prompt> for Input {
    fn from(prompt: Prompt) -> Self {
        match prompt {
            Prompt::Text(text) => Input::new(TEXT, InputPart::Text(text)),
            Prompt::Tokens(tokens) => Input::new(TOKENS, InputPart::Ids(tokens)),
            Prompt::Masked { tokens, seen } => Input::new(TOKENS, InputPart::Ids(tokens)).with(SEEN, InputPart::Flags(seen)),
            Prompt::Embeddings(embeddings) => Input::new(EMBEDDINGS, InputPart::Tensor(embeddings)),
            Prompt::Chat(chat) => Input::new(CHAT, InputPart::Record(serde_json::to_value(chat).unwrap_or_default())),
        }
    }
}

impl Prompt {
    /// Reads an input as a prompt; `None` if it is something else.
    pub fn of(input: &Input) -> Option<Self> {
        let (first, second) = (input.parts().next()?, input.parts().nth(1));
        Some(match (first, second) {
            ((TEXT, InputPart::Text(text)), None) => Prompt::Text(text.clone()),
            ((TOKENS, InputPart::Ids(tokens)), None) => Prompt::Tokens(tokens.clone()),
            ((SEEN, InputPart::Flags(seen)), Some((TOKENS, InputPart::Ids(tokens)))) if input.parts().len() == 2 => {
                Prompt::Masked { tokens: tokens.clone(), seen: seen.clone() }
            }
            ((EMBEDDINGS, InputPart::Tensor(embeddings)), None) => Prompt::Embeddings(embeddings.clone()),
            ((CHAT, InputPart::Record(record)), None) => Prompt::Chat(serde_json::from_value(record.clone()).ok()?),
            _ => return None,
        })
    }

    /// A conversation to which the model is to give the assistant's answer, in the form of the model's own chat template. [`Chat`] has other
    /// ends.
    pub fn chat<M: Into<Message>>(messages: impl IntoIterator<Item = M>) -> Self {
        Prompt::Chat(Chat::new(messages))
    }
}

impl Display for Prompt {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Prompt::Text(text) => write!(f, "{text:?}"),
            Prompt::Tokens(tokens) => write!(f, "{tokens:?}"),
            Prompt::Embeddings(constant) => write!(f, "embeddings {:?}", constant.tensor.dims()),
            Prompt::Chat(chat) => write!(f, "{chat}"),
            Prompt::Masked { tokens, seen } => {
                let tokens = tokens.iter().zip(seen).map(|(token, seen)| if *seen { token.to_string() } else { format!("({token})") });
                write!(f, "[{}]", tokens.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What can be given as a prompt: text, a conversation, token ids, embeddings, or several of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a prompt",
    note = "a prompt is text (`&str`, `String`), a conversation (`Prompt::chat`, `Chat`), token ids (`&[u32]`, `Vec<u32>`), embeddings (`&Tensor<C, (Seq, Hidden)>`), or an array or `Vec` of these for several rows of the batch"
)]
pub trait IntoPrompts {
    /// The prompts, one row of the batch each.
    fn into_prompts(self) -> Vec<Prompt>;
}

macro_rules! single {
    ($($source:ty: $prompt:ident => $value:expr;)+) => {$(
        impl IntoPrompts for $source {
            fn into_prompts(self) -> Vec<Prompt> {
                let $prompt = self;
                vec![$value]
            }
        }
        impl From<$source> for Prompt {
            fn from($prompt: $source) -> Self {
                $value
            }
        }
    )+};
}
single! {
    &str: text => Prompt::Text(text.to_string());
    String: text => Prompt::Text(text);
    &String: text => Prompt::Text(text.clone());
    &&str: text => Prompt::Text((*text).to_string());
    &[u32]: tokens => Prompt::Tokens(tokens.to_vec());
    Vec<u32>: tokens => Prompt::Tokens(tokens);
    &Vec<u32>: tokens => Prompt::Tokens(tokens.clone());
    Chat: chat => Prompt::Chat(chat);
    &Chat: chat => Prompt::Chat(chat.clone());
}

impl Prompt {
    /// Token ids of which only those that are `seen` can be looked at from other positions, as with an attention mask.
    pub fn masked(tokens: &[u32], seen: &[bool]) -> Self {
        Prompt::Masked { tokens: tokens.to_vec(), seen: seen.to_vec() }
    }
}

/// Token embeddings in place of tokens.
impl<C> From<&Tensor<C, (Seq, Hidden)>> for Prompt {
    fn from(embeddings: &Tensor<C, (Seq, Hidden)>) -> Self {
        Prompt::Embeddings(Constant { names: vec!["Seq".into(), "Hidden".into()], tensor: embeddings.padded().clone() })
    }
}
impl<C> IntoPrompts for &Tensor<C, (Seq, Hidden)> {
    fn into_prompts(self) -> Vec<Prompt> {
        vec![Prompt::from(self)]
    }
}

impl IntoPrompts for Prompt {
    fn into_prompts(self) -> Vec<Prompt> {
        vec![self]
    }
}
impl IntoPrompts for &Prompt {
    fn into_prompts(self) -> Vec<Prompt> {
        vec![self.clone()]
    }
}

macro_rules! several {
    ($($source:ty),+ $(,)?) => {$(
        impl IntoPrompts for $source {
            fn into_prompts(self) -> Vec<Prompt> {
                self.into_iter().map(|prompt| Prompt::from(prompt.to_owned())).collect()
            }
        }
    )+};
}
several!(
    Vec<String>,
    &Vec<String>,
    &[String],
    Vec<&str>,
    &Vec<&str>,
    &[&str],
    Vec<Vec<u32>>,
    &Vec<Vec<u32>>,
    &[Vec<u32>],
    Vec<Chat>,
    &Vec<Chat>,
    &[Chat],
    Vec<Prompt>,
    &Vec<Prompt>,
    &[Prompt]
);

impl<const N: usize> IntoPrompts for [&str; N] {
    fn into_prompts(self) -> Vec<Prompt> {
        self.as_slice().into_prompts()
    }
}
impl<const N: usize> IntoPrompts for &[&str; N] {
    fn into_prompts(self) -> Vec<Prompt> {
        self.as_slice().into_prompts()
    }
}
impl<const N: usize> IntoPrompts for [String; N] {
    fn into_prompts(self) -> Vec<Prompt> {
        self.as_slice().into_prompts()
    }
}
