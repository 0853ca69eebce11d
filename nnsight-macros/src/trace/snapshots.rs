//! What `trace!` and `#[intervene]` write: small, and calls only.

use quote::quote;

use super::{Outcome, expand, intervene};

fn pretty(tokens: proc_macro2::TokenStream) -> String {
    let file = syn::parse2(quote!(fn shown() { #tokens })).expect("an expansion parses");
    prettyplease::unparse(&file)
}

#[test]
fn a_trace() {
    let expanded = expand(
        quote!(model, prompt, {
            model.layers[-1].mlp.output *= 0.5;
            model.layers[i].output.at(Seq, -1) = value;
            (model.lm_head.output, list[0])
        }),
        Outcome::Run,
    );
    assert_eq!(pretty(expanded), include_str!("snapshots/trace.txt"));
}

#[test]
fn several_prompts_and_a_condition() {
    let expanded = expand(
        quote!(self.model, {
            let clean = invoke!(prompts[0], { model.layers[2].output });
            if clean.mean_all().gt(0.0) {
                steer(model);
            } else if count == 3 {
                return;
            }
        }),
        Outcome::Graph,
    );
    assert_eq!(pretty(expanded), include_str!("snapshots/invoke.txt"));
}

#[test]
fn an_intervention() {
    let expanded = intervene(
        quote!(),
        quote! {
            /// Adds a direction.
            pub fn steer<C: Signature>(block: Block<C>, direction: &Tensor<C, (Hidden,)>) {
                block.output.at(Seq, -1) += direction;
            }
        },
    );
    assert_eq!(prettyplease::unparse(&syn::parse2(expanded).expect("an item")), include_str!("snapshots/intervene.txt"));
}
