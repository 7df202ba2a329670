//! The lease: what a handler that waits and its connection share of one request, in memory that is used again.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use super::head::OwnedHead;
use super::link::Link;
use crate::http::request::Request;
use crate::http::response::Response;

/// Of one request: a copy of its head, and the way of its body to the handler.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(super) head: OwnedHead,
    pub(super) link: Link,
}

/// What lies ready for requests to come, of one worker.
#[derive(Debug, Default)]
pub(in crate::http) struct Pool {
    free: RefCell<Vec<Rc<Storage>>>,
}

/// How many storages lie ready at most, and how long the head in each was at most, in bytes.
const MOST: usize = 64;
const LONGEST: usize = 16 * 1024;

/// A share in a storage, which goes back to its pool with the last of them.
#[derive(Debug)]
pub(super) struct Lease {
    storage: Rc<Storage>,
    pool: Rc<Pool>,
}

impl Lease {
    /// A copy of the head of a request, whose body is still to come.
    pub(super) fn new(request: &Request<'_>, response: &Response<'_, '_>, pool: &Rc<Pool>) -> Lease {
        let mut storage = pool.free.borrow_mut().pop().unwrap_or_default();
        Rc::get_mut(&mut storage).expect("nobody else has what lies ready").head.copy(request);
        storage.link.begin(response.request_body());
        Lease { storage, pool: Rc::clone(pool) }
    }
}

impl Deref for Lease {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        &self.storage
    }
}

impl Clone for Lease {
    fn clone(&self) -> Lease {
        Lease { storage: Rc::clone(&self.storage), pool: Rc::clone(&self.pool) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if Rc::strong_count(&self.storage) > 1 {
            return;
        }
        // What waits for it is gone, and may do anything while it goes: the pool is not borrowed meanwhile.
        self.storage.link.end();
        let mut free = self.pool.free.borrow_mut();
        if free.len() < MOST && self.storage.head.len() <= LONGEST {
            free.push(Rc::clone(&self.storage));
        }
    }
}
