//! What one forward pass is given: its tokens, the keys and values of earlier positions, and for which positions its head is asked.

mod kv_cache;
mod token_batch;
mod window;

pub use kv_cache::KvCache;
#[allow(deprecated)]
pub use kv_cache::Past;
pub use token_batch::TokenBatch;
pub use window::Window;
