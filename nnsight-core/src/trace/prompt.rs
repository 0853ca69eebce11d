//! What can be given as a prompt.

use crate::graph::{Chat, Constant, Prompt};
use crate::types::{Hidden, Seq, Tensor};

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
