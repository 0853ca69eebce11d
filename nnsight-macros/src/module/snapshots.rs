//! What `derive(Module)` writes.

use quote::quote;

#[test]
fn a_module_with_a_tap() {
    let expanded = super::expand(quote! {
        #[module(sites = MlpSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
        pub struct FeedForward<C: Signature> {
            /// To the neurons.
            #[child(pointwise, from(input))]
            c_fc: Linear<C, Hidden, Mlp>,
            #[tap(act: (Batch, Seq, Mlp), from(c_fc), mixes)]
            place: Place,
        }
    });
    crate::snapshot::check("module/snapshots/module.txt", &prettyplease::unparse(&syn::parse2(expanded).expect("items")));
}
