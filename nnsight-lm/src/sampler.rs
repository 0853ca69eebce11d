//! The choice of the next token.

use rand::SeedableRng as _;
use rand::distr::Distribution as _;
use rand_chacha::ChaCha12Rng;

use crate::Generation;

/// Chooses the tokens of one prompt.
pub(crate) struct Sampler {
    generator: ChaCha12Rng,
}

impl Sampler {
    /// For the prompt with this number in its invoke: what it draws does not depend on what else is in the batch.
    pub fn new(generation: &Generation, prompt: usize) -> Self {
        Sampler { generator: for_prompt(generation.seed, prompt) }
    }

    /// The next token after the tokens `before`, of which `new` were chosen here. Those in `ends` are not chosen before there are enough.
    pub fn choose(&mut self, generation: &Generation, mut logits: Vec<f32>, before: &[u32], new: usize, ends: &[u32]) -> u32 {
        if generation.repetition_penalty != 1.0 {
            penalize(&mut logits, before, generation.repetition_penalty as f32);
        }
        if new < generation.min_new_tokens {
            ends.iter().filter_map(|&end| logits.get_mut(end as usize).map(|logit| *logit = f32::NEG_INFINITY)).for_each(drop);
        }
        if generation.temperature == 0.0 {
            return largest(&logits);
        }
        let mut candidates = Descending::new(&logits);
        let count = generation.top_k.unwrap_or(usize::MAX).min(logits.len());
        let Some(first) = candidates.get(0) else { return 0 };
        let best = f64::from(logits[first as usize]);
        let weight = |token: u32| ((f64::from(logits[token as usize]) - best) / generation.temperature).exp();
        let mut total = match count == logits.len() {
            true => (0..count as u32).map(weight).sum::<f64>(),
            false => (0..count).filter_map(|place| candidates.get(place)).map(weight).sum(),
        };
        if let Some(top_p) = generation.top_p {
            let (enough, mut sum) = (top_p * total, 0.0);
            // The token that passes the mark belongs to them.
            for token in (0..count).map_while(|place| candidates.get(place)) {
                sum += weight(token);
                if sum >= enough {
                    break;
                }
            }
            total = sum;
        }
        // If every weight is zero or NaN, there is nothing to draw from.
        let Ok(distribution) = rand::distr::Uniform::new(0.0, total) else { return first };
        let drawn = distribution.sample(&mut self.generator);
        let (mut sum, mut last) = (0.0, first);
        for token in (0..count).map_while(|place| candidates.get(place)) {
            (sum, last) = (sum + weight(token), token);
            if sum > drawn {
                break;
            }
        }
        last
    }
}

/// Tokens by their logits, the largest first, of which only those are sorted that are asked for.
struct Descending<'a> {
    logits: &'a [f32],
    tokens: Vec<u32>,
    sorted: usize,
}

impl<'a> Descending<'a> {
    fn new(logits: &'a [f32]) -> Self {
        Descending { logits, tokens: (0..logits.len() as u32).collect(), sorted: 0 }
    }

    fn get(&mut self, place: usize) -> Option<u32> {
        while place >= self.sorted && self.sorted < self.tokens.len() {
            let logits = self.logits;
            let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
            let next = (8 * self.sorted).clamp(64, self.tokens.len().max(64)).min(self.tokens.len());
            let rest = &mut self.tokens[self.sorted..];
            let count = next - self.sorted;
            if count < rest.len() {
                rest.select_nth_unstable_by(count, order);
            }
            rest[..count].sort_unstable_by(order);
            self.sorted = next;
        }
        self.tokens.get(place).copied()
    }
}

/// What one prompt's tokens are drawn with. The first prompt's numbers are those of the seed; those of others are their own, also beside the
/// numbers of other seeds.
fn for_prompt(seed: u64, prompt: usize) -> ChaCha12Rng {
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    generator.set_stream(prompt as u64);
    generator
}

/// The index of the largest entry, the first of several.
fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logit.total_cmp(&logits[best]).is_gt() {
            best = index;
        }
    }
    best as u32
}

/// Makes tokens less likely that the text already has (Keskar et al. 2019).
fn penalize(logits: &mut [f32], before: &[u32], penalty: f32) {
    let mut before = before.to_vec();
    before.sort_unstable();
    before.dedup();
    for token in before {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngCore as _;

    use super::*;

    fn draws(generation: &Generation, logits: &[f32]) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        let mut sampler = Sampler::new(generation, 0);
        for _ in 0..2000 {
            counts[sampler.choose(generation, logits.to_vec(), &[], 0, &[]) as usize] += 1;
        }
        counts
    }

    #[test]
    fn without_a_temperature_the_most_likely_is_taken() {
        assert_eq!(draws(&Generation::default(), &[0.0, 2.0, 1.0, 2.0]), [0, 2000, 0, 0]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let counts = draws(&Generation::default().temperature(2.0), &[2.0 * 3f32.ln(), 0.0]);
        assert!((1400..1600).contains(&counts[0]), "three of four: {counts:?}");
    }

    #[test]
    fn top_k_and_top_p_leave_the_unlikely_out() {
        let logits = [0.0, 1.0, 2.0, 3.0];
        let counts = draws(&Generation::default().temperature(1.0).top_k(2), &logits);
        assert!(counts[0] + counts[1] == 0 && counts[2] > 0 && counts[3] > 0, "{counts:?}");
        // The best has 0.64, the two best 0.88 of the probability.
        assert_eq!(draws(&Generation::default().temperature(1.0).top_p(0.6), &logits)[3], 2000);
        let counts = draws(&Generation::default().temperature(1.0).top_p(0.7), &logits);
        assert!(counts[0] + counts[1] == 0 && counts[2] > 0, "{counts:?}");
    }

    #[test]
    fn only_what_is_asked_for_is_sorted() {
        let logits = (0..1000).map(|token| ((token * 7919) % 1000) as f32).collect::<Vec<_>>();
        let mut all = (0..1000).collect::<Vec<u32>>();
        all.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let mut tokens = Descending::new(&logits);
        assert_eq!((tokens.get(3), tokens.sorted), (Some(all[3]), 64));
        assert_eq!((0..1000).map_while(|place| tokens.get(place)).collect::<Vec<_>>(), all);
        assert_eq!(tokens.get(1000), None);
    }

    #[test]
    fn what_is_no_number_is_not_drawn_from() {
        let generation = Generation::default().temperature(1.0);
        let mut sampler = Sampler::new(&generation, 0);
        assert_eq!(sampler.choose(&generation, vec![1.0, f32::NAN, 2.0], &[], 0, &[]), 1, "the largest as numbers are ordered");
        assert_eq!(sampler.choose(&generation, vec![f32::NEG_INFINITY; 3], &[], 0, &[]), 0);
    }

    #[test]
    fn repeated_tokens_are_less_likely() {
        let generation = Generation::default().repetition_penalty(2.0);
        let mut sampler = Sampler::new(&generation, 0);
        assert_eq!(sampler.choose(&generation, vec![3.0, 2.0, -1.0], &[0, 0], 0, &[]), 1);
        assert_eq!(sampler.choose(&generation, vec![-3.0, -2.0, -1.6], &[2], 0, &[]), 1);
    }

    #[test]
    fn a_text_does_not_end_too_early() {
        let generation = Generation::default().min_new_tokens(2);
        let mut sampler = Sampler::new(&generation, 0);
        let mut choose = |new| sampler.choose(&generation, vec![1.0, 3.0, 2.0], &[], new, &[1]);
        assert_eq!([choose(0), choose(1), choose(2)], [2, 2, 1]);
    }

    #[test]
    fn prompts_and_seeds_are_not_exchanged() {
        let first = |seed, prompt| for_prompt(seed, prompt).next_u64();
        assert_eq!(first(0, 0), ChaCha12Rng::seed_from_u64(0).next_u64());
        let mut all = (0..4).flat_map(|seed| (0..4).map(move |prompt| first(seed, prompt))).collect::<Vec<_>>();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let generation = Generation::default().temperature(1.0).seed(seed);
            let mut sampler = Sampler::new(&generation, 3);
            (0..20).map(|_| sampler.choose(&generation, vec![0.0; 50], &[], 0, &[])).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
