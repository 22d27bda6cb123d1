//! What ends in one step, and is freed elsewhere: by whoever has the time for it.

/// What is no longer needed, and takes its time to be freed.
#[derive(Default)]
pub(crate) struct Aside(pub(super) Vec<Box<dyn Send + Sync>>);

impl Aside {
    /// So many things are freed as fast as they could be handed on.
    const FEW: usize = 1_000;

    /// Puts aside what consists of so many things, if they are not few.
    pub(super) fn put(&mut self, things: usize, all: impl Send + Sync + 'static) {
        if things > Self::FEW {
            self.0.push(Box::new(all));
        }
    }
}
