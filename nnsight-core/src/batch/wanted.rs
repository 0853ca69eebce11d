//! For which positions the last stages of a pass are asked.

use super::Window;

/// For which positions the last stages of a pass are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Every stage for all of them.
    #[default]
    All,
    /// The last stage for these only.
    OfHead(Window),
    /// The last stage for these only; and nobody else needs what the stage before it computes at others.
    OfLastLayer(Window),
}

impl Wanted {
    /// For these, if any are left out; of the stage before the last too if `cuts` says so.
    pub fn of(window: Option<Window>, cuts: bool) -> Self {
        match window {
            None => Wanted::All,
            Some(window) if cuts => Wanted::OfLastLayer(window),
            Some(window) => Wanted::OfHead(window),
        }
    }

    /// Those for which the last stage is asked, if not for all.
    pub fn window(self) -> Option<Window> {
        match self {
            Wanted::All => None,
            Wanted::OfHead(window) | Wanted::OfLastLayer(window) => Some(window),
        }
    }
}
