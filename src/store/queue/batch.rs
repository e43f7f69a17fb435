//! Jobs that left the queue together.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ALONE, Queue};

/// A question with the place for its answer.
#[derive(Debug)]
pub(in crate::store) struct Job<Q, A> {
    pub(in crate::store) question: Q,
    pub(super) reply: oneshot::Sender<A>,
    /// Its place in the order of arrival.
    pub(super) number: u64,
    /// How often a batch with it was dropped.
    pub(super) put_back: u32,
    /// When it may no longer leave in a batch.
    pub(super) until: Option<Instant>,
}

/// Jobs that left the queue together, in order of arrival.
#[derive(Debug)]
pub(in crate::store) struct Batch<Q, A> {
    jobs: Vec<Job<Q, A>>,
    queue: Arc<Queue<Q, A>>,
}

impl<Q, A> Job<Q, A> {
    /// Whether nobody waits for it, or its time is up.
    pub(super) fn is_over(&self) -> bool {
        self.reply.is_closed() || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl<Q, A> Batch<Q, A> {
    pub(super) fn new(jobs: Vec<Job<Q, A>>, queue: &Arc<Queue<Q, A>>) -> Self {
        Self { jobs, queue: queue.clone() }
    }

    /// Answers the jobs in their order, each by what `answer` returns next.
    pub(in crate::store) fn answer(mut self, mut answer: impl FnMut() -> A) {
        for job in self.jobs.drain(..) {
            // The client may have left meanwhile.
            let _ = job.reply.send(answer());
        }
    }

    /// Forgets the jobs whose clients have left, or whose time is up; false if none is left.
    pub(in crate::store) fn forget_gone(&mut self) -> bool {
        self.jobs.retain(|job| !job.is_over());
        !self.jobs.is_empty()
    }

    /// Whether the batch is a single job that was put back until it left alone.
    pub(in crate::store) fn is_last_resort(&self) -> bool {
        self.jobs.len() == 1 && self.jobs[0].put_back >= ALONE
    }

    /// Sorts by `key`; jobs with the same key stay in order of arrival.
    pub(in crate::store) fn sort_by_key<K: Ord + ?Sized>(&mut self, key: impl Fn(&Q) -> &K) {
        self.jobs.sort_by(|one, other| key(&one.question).cmp(key(&other.question)));
    }

    /// Divides the batch into parts of at most `size` jobs, the first one last.
    pub(in crate::store) fn divide(mut self, size: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        while !self.jobs.is_empty() {
            let rest = self.jobs.len() - 1;
            let start = rest - rest % size.max(1);
            parts.push(Self::new(self.jobs.split_off(start), &self.queue));
        }
        parts
    }
}

impl<Q, A> Deref for Batch<Q, A> {
    type Target = [Job<Q, A>];

    fn deref(&self) -> &[Job<Q, A>] {
        &self.jobs
    }
}

impl<Q, A> Drop for Batch<Q, A> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            let jobs = std::mem::take(&mut self.jobs);
            self.queue.put_back(jobs.into_iter());
        }
    }
}
