//! The models that are in use, and how others take their place while calls go on.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Models;

/// The models in use. Whoever computes asks for them anew with every request and keeps what it got
/// until the request is done, so that a replacement is seen by the next request and disturbs none.
pub struct ModelsInUse(RwLock<Arc<Models>>);

impl ModelsInUse {
    /// These, to begin with.
    pub fn new(models: Models) -> Self {
        Self(RwLock::new(Arc::new(models)))
    }

    /// The present ones.
    pub fn get(&self) -> Arc<Models> {
        Arc::clone(&self.0.read())
    }

    /// Puts others in their place and gives back those before, which some requests may still hold.
    pub fn replace(&self, models: Models) -> Arc<Models> {
        std::mem::replace(&mut self.0.write(), Arc::new(models))
    }
}
