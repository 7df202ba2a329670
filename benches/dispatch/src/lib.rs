//! What a request costs a worker, without a kernel: the scenes that are timed by `cargo bench --bench dispatch`, and
//! counted by `cargo xtask budget`.
//!
//! In a round of a scene each client's bytes arrive, and the worker turns until all are answered. The worker is the one
//! that runs on io_uring, with its own memory; only completions are fed by hand.

mod counting;
mod scenes;
// What the http-server runs, everything on.
#[path = "../../../examples/http-server/routes.rs"]
mod routes;
#[path = "../../../examples/http-server/waiting.rs"]
mod waiting;

pub use counting::{Counting, allocations};
pub use scenes::{SCENES, Scene};

use campanile_core::ByHand;

/// Rounds after which tables have grown to their size, files are in memory, and nothing is left to be found out.
pub const WARM_UP: usize = 200;

/// Turns that a round may take: more than one, where it waits for a file.
const MOST_TURNS: usize = 16;

/// A scene that goes on.
#[derive(Debug)]
pub struct Stage {
    scene: &'static Scene,
    worker: ByHand,
    clients: Vec<u32>,
    /// What each client sends in a round.
    burst: Vec<u8>,
    /// Bytes that are sent to all of them in a round.
    answers_len: u64,
}

impl Stage {
    /// Sets a scene, and warms it up.
    ///
    /// # Panics
    /// When an answer is not what it has to be.
    #[must_use]
    pub fn set(scene: &'static Scene) -> Stage {
        let mut worker = (scene.worker)();
        let clients = (0..scene.clients).map(|_| worker.connect()).collect();
        let burst = scene.request.repeat(scene.pipelined);
        let answers_len = (scene.answer_len() * scene.requests()) as u64;
        let mut stage = Stage { scene, worker, clients, burst, answers_len };
        stage.check();
        (0..WARM_UP).for_each(|_| stage.round());
        stage.check();
        stage
    }

    /// Each client sends its requests, and all are answered: bytes are counted here, and looked at by
    /// [`check`](Self::check).
    ///
    /// # Panics
    /// When it takes too many turns, or more is answered than was asked for.
    pub fn round(&mut self) {
        let answered = self.play();
        assert_eq!(answered, self.answers_len, "{}: bytes answered", self.scene.name);
    }

    /// A round, and how many bytes were answered.
    fn play(&mut self) -> u64 {
        let before = self.worker.sent();
        for &client in &self.clients {
            self.worker.deliver(client, &self.burst);
        }
        for _ in 0..MOST_TURNS {
            self.worker.turn();
            if self.worker.sent() - before >= self.answers_len {
                break;
            }
        }
        self.worker.sent() - before
    }

    /// A round whose answers are looked at, byte for byte.
    ///
    /// # Panics
    /// When one of them is not what it has to be.
    pub fn check(&mut self) {
        self.answers().iter().for_each(|answers| self.scene.check(answers));
    }

    /// What each client is answered in a round.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        self.worker.hear(true);
        self.play();
        self.worker.hear(false);
        self.clients.iter().map(|&client| self.worker.heard(client)).collect()
    }

    /// Bytes that arrive in a round.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.burst.len() * self.clients.len()
    }

    /// What calls of the allocator so many rounds make.
    #[must_use]
    pub fn allocations(&mut self, rounds: usize) -> u64 {
        let before = allocations();
        (0..rounds).for_each(|_| self.round());
        allocations() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_is_answered_as_it_has_to_be() {
        for scene in SCENES {
            Stage::set(scene);
        }
    }

    #[test]
    fn the_date_moves() {
        let mut stage = Stage::set(Scene::named("http").expect("a scene"));
        let before = stage.answers();
        // A turn takes 20 µs on the worker's clock, so that it is two seconds later.
        (0..100_000).for_each(|_| stage.round());
        assert_ne!(stage.answers(), before);
        stage.check();
    }

    #[test]
    fn names_are_words_and_differ() {
        let mut names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENES.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
    }

    #[test]
    #[should_panic(expected = "answers with")]
    fn a_wrong_answer_is_seen() {
        SCENES[0].check(&vec![b'?'; SCENES[0].answer_len()]);
    }
}
