//! What `trace!` and `#[intervene]` write: small, and calls only.

use quote::quote;

use super::{Form, expand, intervene};

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
        Form::Trace,
    );
    crate::snapshot::check("trace/snapshots/trace.txt", &pretty(expanded));
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
        Form::Graph,
    );
    crate::snapshot::check("trace/snapshots/invoke.txt", &pretty(expanded));
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
    crate::snapshot::check("trace/snapshots/intervene.txt", &prettyplease::unparse(&syn::parse2(expanded).expect("an item")));
}

#[test]
fn a_generation() {
    let expanded = expand(
        quote!(model, prompt, max_new_tokens = 20, on_token = |token| show(token), {
            for step in model.steps(..) {
                step.layers[15].output += &direction;
            }
            model.tokens().print()
        }),
        Form::Generate,
    );
    crate::snapshot::check("trace/snapshots/generate.txt", &pretty(expanded));
}

#[test]
fn a_session_with_two_traces() {
    let expanded = expand(
        quote!(model, {
            let clean = trace!(model, clean, { model.layers[3].output });
            generate!(model, corrupted, max_new_tokens = 2, {
                model.prompt().layers[3].output = clean;
                model.tokens()
            })
        }),
        Form::Session,
    );
    crate::snapshot::check("trace/snapshots/session.txt", &pretty(expanded));
}
