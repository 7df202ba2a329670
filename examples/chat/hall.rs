//! The hall: the members that a worker serves, room by room, and how the workers tell each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use async_channel::Sender;
use campanile::{Bytes, Monitor};

thread_local! {
    /// That of this worker: a worker is a thread.
    static ROOMS: RefCell<HashMap<String, Seats>> = RefCell::default();
}

/// Who is in a room, by the numbers of the members.
type Seats = BTreeMap<u64, Seat>;

/// A member in a room, as the others see one.
pub(crate) struct Seat {
    pub(crate) nick: String,
    pub(crate) queue: Sender<Bytes>,
    /// Lines that were left out since the last one that fitted.
    pub(crate) missed: u64,
}

impl Seat {
    /// Passes a line on, unless the queue is full.
    fn pass(&mut self, line: &Bytes) {
        if self.missed > 0 {
            let notice = format!("* {} lines were left out: you read too slowly\n", self.missed);
            if self.queue.try_send(notice.into()).is_ok() {
                self.missed = 0;
            }
        }
        if self.missed > 0 || self.queue.try_send(line.clone()).is_err() {
            self.missed += 1;
        }
    }
}

/// Takes a seat in a room, as the member with that number.
pub(crate) fn sit(room: &str, id: u64, seat: Seat) {
    ROOMS.with_borrow_mut(|rooms| rooms.entry(room.to_owned()).or_default().insert(id, seat));
}

/// Has the others see the member by another name.
pub(crate) fn rename(room: &str, id: u64, nick: &str) {
    in_room(room, |seats| {
        if let Some(seat) = seats.get_mut(&id) {
            nick.clone_into(&mut seat.nick);
        }
    });
}

/// Gives it up.
pub(crate) fn rise(room: &str, id: u64) {
    ROOMS.with_borrow_mut(|rooms| {
        let is_empty = rooms.get_mut(room).is_some_and(|seats| {
            seats.remove(&id);
            seats.is_empty()
        });
        if is_empty {
            rooms.remove(room);
        }
    });
}

/// Passes a line on to everybody in a room but the member it comes from, on all workers; returns when it lies in the
/// queues of all of them.
pub(crate) async fn tell(monitor: &Monitor, room: &str, from: u64, line: Bytes) {
    let pass = move |seats: &mut Seats| {
        seats.iter_mut().filter(|(id, _)| **id != from).for_each(|(_, seat)| seat.pass(&line));
    };
    on_all_workers(monitor, room, pass).await;
}

/// Everybody in a room, on all workers.
pub(crate) async fn names(monitor: &Monitor, room: &str) -> Vec<String> {
    let names = |seats: &mut Seats| seats.values().map(|seat| seat.nick.clone()).collect::<Vec<_>>();
    on_all_workers(monitor, room, names).await.concat()
}

/// Does something with the seats of a room, on each worker that has some: here at once, and on the others all at the
/// same time.
async fn on_all_workers<T: Send + 'static>(
    monitor: &Monitor,
    room: &str,
    run: impl FnOnce(&mut Seats) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let workers = monitor.workers().into_iter().filter(|worker| !worker.is_here());
    let elsewhere: Vec<_> = workers
        .map(|worker| {
            let (room, run) = (room.to_owned(), run.clone());
            worker.spawn(async move || in_room(&room, run))
        })
        .collect();
    let mut all = Vec::from_iter(in_room(room, run));
    for there in elsewhere {
        // A worker that has ended has no members.
        all.extend(there.await.ok().flatten());
    }
    all
}

fn in_room<T>(room: &str, run: impl FnOnce(&mut Seats) -> T) -> Option<T> {
    ROOMS.with_borrow_mut(|rooms| rooms.get_mut(room).map(run))
}
