//! Collected: what the service inside of a layer wrote, until the layer passes it on.

use super::{Outgoing, Output, Segment, Tail};

/// What an inner service has written: an [`Output`] on its side, readable chunks on its layer's. It has memory only
/// while there is something in it.
#[derive(Debug)]
pub(crate) struct Collected {
    outgoing: Outgoing,
    memory: Option<Box<[u8]>>,
    len: usize,
    held_limit: usize,
}

impl Collected {
    /// At most `len` bytes of written output; `held_limit` bounds what is handed over as `Bytes`.
    pub(crate) fn new(len: usize, held_limit: usize) -> Collected {
        Collected { outgoing: Outgoing::default(), memory: None, len, held_limit }
    }

    /// Sees to it that it can take so much; before there is any memory.
    pub(crate) fn at_least(&mut self, len: usize) {
        if self.memory.is_none() {
            self.len = self.len.max(len);
        }
    }

    pub(crate) fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Uses `spare`, if that is of the right length, or memory of its own.
    pub(crate) fn lend(&mut self, spare: Option<Box<[u8]>>) {
        let spare = spare.filter(|spare| spare.len() == self.len);
        self.memory = Some(spare.unwrap_or_else(|| vec![0; self.len].into()));
    }

    /// Takes the memory away again, unless something is in it.
    pub(crate) fn take_memory(&mut self) -> Option<Box<[u8]>> {
        if self.is_empty() {
            self.outgoing.queue.clear();
            self.outgoing.tail = None;
            return self.memory.take();
        }
        None
    }

    /// The sink, for the inner service. Without memory it has no room.
    pub(crate) fn output(&mut self) -> Output<'_> {
        if self.is_empty() {
            self.outgoing.queue.clear();
            self.outgoing.tail = None;
        }
        let tail = *self.outgoing.tail.get_or_insert(Tail { buffer: 0, start: 0, end: 0 });
        let longest = self.memory.as_ref().map_or(0, |memory| memory.len());
        let before = self.outgoing.len;
        let memory = match &mut self.memory {
            Some(memory) if !self.outgoing.ended => &mut memory[tail.end as usize..],
            _ => &mut [],
        };
        let outgoing = &mut self.outgoing;
        Output::over(memory, longest, before, outgoing, self.held_limit)
    }

    /// The room that there is, or would be if there were memory.
    pub(crate) fn room(&self) -> usize {
        match self.outgoing.tail {
            Some(tail) if !self.is_empty() => self.len - tail.end as usize,
            _ => self.len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.outgoing.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.len == 0
    }

    /// Whether the inner service has said that it writes no more.
    pub(crate) fn is_ended(&self) -> bool {
        self.outgoing.ended
    }

    /// The first bytes, as many as lie together; empty when there are none.
    pub(crate) fn chunk(&self) -> &[u8] {
        let memory = self.memory.as_deref().unwrap_or_default();
        let range = |start: u32, end: u32| &memory[start as usize..end as usize];
        for segment in &self.outgoing.queue {
            match segment {
                Segment::Range { start, end, .. } if start < end => return range(*start, *end),
                Segment::Held(bytes) if !bytes.is_empty() => return bytes,
                _ => {}
            }
        }
        self.outgoing.tail.map_or(&[], |tail| range(tail.start, tail.end))
    }

    /// Drops the first `n` bytes, which were passed on.
    pub(crate) fn consume(&mut self, n: usize) {
        assert!(n <= self.outgoing.len, "consume({n}) of {} collected bytes", self.outgoing.len);
        self.outgoing.drop_front(n, |_| {});
    }
}
