//! Documents shaped like Kubernetes objects, parsed into a [`Config`] that cannot be wrong.

mod model;

pub use model::*;
