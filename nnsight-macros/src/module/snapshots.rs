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

#[test]
fn a_module_that_is_read_from_a_checkpoint() {
    let expanded = super::expand(quote! {
        #[module(sites = Model, config = LlamaConfig)]
        #[common(CausalLm<Block> { layers, embed: embed_tokens.output, final_norm: norm.output, logits: norm.output })]
        pub struct Llama {
            #[child(name = "model.embed_tokens")]
            embed_tokens: Embedding,
            #[child(name = "model.layers")]
            layers: Vec<Layer>,
            #[child(count = Experts, bias = true)]
            experts: Vec<Expert>,
            #[child(pointwise, epsilon = config.epsilon)]
            norm: RmsNorm,
            #[value(config.sizes.heads)]
            heads: usize,
            place: Place,
        }
    });
    let file = syn::parse2::<syn::File>(expanded).expect("items");
    // The sites are those of any module.
    let new = file.items.into_iter().filter(|item| matches!(item, syn::Item::Impl(item) if is_new(item)));
    let file = syn::File { shebang: None, frontmatter: None, attrs: Vec::new(), items: new.collect() };
    crate::snapshot::check("module/snapshots/loaded.txt", &prettyplease::unparse(&file));
}

fn is_new(item: &syn::ItemImpl) -> bool {
    let of = item.trait_.as_ref().and_then(|(of, _)| of.segments.last());
    of.is_some_and(|of| of.ident == "Load" || of.ident == "CausalLm")
}

#[test]
fn what_is_wrong_with_reading_a_module_is_said_at_its_field() {
    let errors = |tokens| super::expand(tokens).to_string();
    let found = errors(quote! {
        #[module(config = Config)]
        struct Mlp {
            heads: usize,
            place: Place,
        }
    });
    assert!(found.contains("`heads` is neither a child nor the place, and so has to say what it is: `#[value(config.heads)]`"), "{found}");
    let found = errors(quote! {
        struct Mlp {
            #[child(pointwise, bias = true)]
            c_fc: Linear,
            #[value(config.heads)]
            heads: usize,
            place: Place,
        }
    });
    for word in ["`bias` says how the module is read from a checkpoint", "`value` says how the module is read from a checkpoint"] {
        assert!(found.contains(word), "{found}");
    }
    let found = errors(quote! {
        struct Mlp {
            #[child(count = Experts)]
            c_fc: Linear,
            place: Place,
        }
    });
    assert!(found.contains("`count` and `stages` say what a list is, and `c_fc` is none: its type is not a `Vec`"), "{found}");
    let found = errors(quote! {
        #[common(Causal<Block> { layers })]
        struct Mlp {
            place: Place,
        }
    });
    assert!(found.contains("and `Causal` is none of them"), "{found}");
}
