//! The mutations: for every hazard one line whose loss brings it back.

/// One edit of the source that must not go unnoticed.
pub(crate) struct Mutation {
    pub(crate) name: &'static str,
    /// The hazard it brings back.
    pub(crate) hazard: &'static str,
    pub(crate) file: &'static str,
    /// What is there, exactly once.
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
}

const DROPPED: &str = "an operation dropped while the kernel may still write";
const REFUSED: &str = "submit fails after the entry was pushed";
const IN_FLIGHT: &str = "ring dropped with operations in flight";
const BUFFERS: &str = "buffer returned twice, never, or before it was parsed";
const NO_BUFFERS: &str = "ENOBUFS ends a multishot receive; arming again at once spins";
const REUSED: &str = "descriptor or slot used again while an operation is pending";
const UNOWNED: &str = "a descriptor that nobody owns";
const CANCEL: &str = "cancel races";
const ENDED: &str = "a multishot that ends silently";
const EMFILE: &str = "EMFILE on accept";
const SHORT: &str = "a send shorter than asked";
const DISK: &str = "said to be on the disk, and it is not";
const NONSENSE: &str = "a completion that makes no sense";
pub(crate) const WAKE: &str = "a wake between check and park";
const LENT: &str = "lent bytes that are lost, or come too late";
const STALL: &str = "a connection that is forgotten";
const DEADLINE: &str = "a deadline that a peer can stretch, or that cuts who is in time";
const GUESTS: &str = "one address takes all the places there are";
const FUTURE: &str = "a future dropped while it waits";
const FUTURE_WAKE: &str = "a future that is woken wrongly, or never";

pub(crate) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "free the slot while a send is in flight",
        hazard: DROPPED,
        file: "crates/core/src/connection/closing.rs",
        old: "            && self.sending == Sending::Idle\n            && !matches!",
        new: "            && !matches!",
    },
    Mutation {
        name: "free the slot while a receive is in flight",
        hazard: DROPPED,
        file: "crates/core/src/connection/closing.rs",
        old: "            && !matches!(self.receive, Receive::Armed { .. } | Receive::Once(_))",
        new: "",
    },
    Mutation {
        name: "release what is being sent when the connection ends",
        hazard: DROPPED,
        file: "crates/core/src/connection/closing.rs",
        old: "        if self.sending == Sending::Idle {\n            self.outgoing.discard(env.sends);",
        new: "        if true {\n            self.outgoing.discard(env.sends);",
    },
    Mutation {
        name: "release the private buffer while the kernel receives into it",
        hazard: DROPPED,
        file: "crates/core/src/worker.rs",
        old: "        self.ring.submit(token, submission, &self.memory);\n        true",
        new: "        self.ring.submit(token, submission, &self.memory);\n        false",
    },
    Mutation {
        name: "land a scatter list before its send is done",
        hazard: DROPPED,
        file: "crates/core/src/connection/sending.rs",
        old: "                list = Some(index);",
        new: "                drop(memory.flights.land(index));",
    },
    Mutation {
        name: "release a send buffer with ranges of it still queued",
        hazard: DROPPED,
        file: "crates/core/src/output.rs",
        old: "                Some(last) => *last = true,",
        new: "                Some(_) => pool.release(tail.buffer),",
    },
    Mutation {
        name: "drop what is being written to a file",
        hazard: DROPPED,
        file: "crates/core/src/worker/errands.rs",
        old: "        place.errand = Some(Errand { asker, ticket, what, tries: 0 });\n",
        new: "        let what = match what {\n            \
              What::Write { file, offset, bytes, done } => \
              What::Write { file, offset, bytes: Bytes::copy_from_slice(&bytes), done },\n            \
              what => what,\n        };\n        \
              place.errand = Some(Errand { asker, ticket, what, tries: 0 });\n",
    },
    Mutation {
        name: "lose an operation when the queue is full",
        hazard: REFUSED,
        file: "crates/core/src/ring/backlog.rs",
        old: "            self.0.push_back(entry);",
        new: "            drop(entry);",
    },
    Mutation {
        name: "lose an operation when the backlog finds no place",
        hazard: REFUSED,
        file: "crates/core/src/ring/backlog.rs",
        old: "                return self.0.push_front(entry);",
        new: "                return drop(entry);",
    },
    Mutation {
        name: "shuffle the backlog",
        hazard: REFUSED,
        file: "crates/core/src/ring/backlog.rs",
        old: "                return self.0.push_front(entry);",
        new: "                return self.0.push_back(entry);",
    },
    Mutation {
        name: "drop a worker without draining its ring",
        hazard: IN_FLIGHT,
        file: "crates/core/src/worker.rs",
        old: "        self.stop();\n        while self.ring.in_flight() > 0 {",
        new: "        self.stop();\n        while false {",
    },
    Mutation {
        name: "return a buffer twice",
        hazard: BUFFERS,
        file: "crates/core/src/buffer_ring.rs",
        old: "        self.ring.recycle(self.id);\n",
        new: "        self.ring.recycle(self.id);\n        self.ring.recycle(self.id);\n",
    },
    Mutation {
        name: "return a buffer that is kept",
        hazard: BUFFERS,
        file: "crates/core/src/buffer_ring.rs",
        old: "        if self.ring.keeps[id].get() > 0 {",
        new: "        if false {",
    },
    Mutation {
        name: "drop the buffer of a completion that nobody wants any more",
        hazard: BUFFERS,
        file: "crates/core/src/connection.rs",
        old: "            _ => self.discard(piece.len() as u64),\n",
        new: "            _ => std::mem::forget(piece),\n",
    },
    Mutation {
        name: "forget to welcome kept buffers home",
        hazard: BUFFERS,
        file: "crates/core/src/worker.rs",
        old: "        self.memory.buffers.welcome_home();\n",
        new: "",
    },
    Mutation {
        name: "forget a failed receive's buffer",
        hazard: BUFFERS,
        file: "crates/core/src/worker.rs",
        old: "        (_, Some(buffer)) => buffers.take(buffer, 0).map(|_| None),\n",
        new: "",
    },
    Mutation {
        name: "take bundles by number, not by place in the ring",
        hazard: BUFFERS,
        file: "crates/core/src/buffer_ring.rs",
        old: "        self.at[usize::from(position & (self.count - 1))].get()",
        new: "        position & (self.count - 1)",
    },
    Mutation {
        name: "arm again at once after ENOBUFS",
        hazard: NO_BUFFERS,
        file: "crates/core/src/connection.rs",
        old: "                self.receive = Receive::Starved;",
        new: "                self.receive = Receive::Idle;",
    },
    Mutation {
        name: "forget a starved connection",
        hazard: NO_BUFFERS,
        file: "crates/core/src/connection.rs",
        old: "                env.starved.push_back(self.handle);\n",
        new: "",
    },
    Mutation {
        name: "skip the generation check",
        hazard: REUSED,
        file: "crates/core/src/worker.rs",
        old: "    if slot.generation != token.generation() {",
        new: "    if false {",
    },
    Mutation {
        name: "give a slot again under the same generation",
        hazard: REUSED,
        file: "crates/core/src/worker.rs",
        old: "        slot.generation = slot.generation.next();\n",
        new: "",
    },
    Mutation {
        name: "close during a shutdown",
        hazard: REUSED,
        file: "crates/core/src/connection/closing.rs",
        old: "        if self.shut == Shut::InFlight || ending.close",
        new: "        if ending.close",
    },
    Mutation {
        name: "close twice",
        hazard: REUSED,
        file: "crates/core/src/connection/closing.rs",
        old: "            ending.close = Close::Done;\n",
        new: "            ending.close = Close::NotYet;\n",
    },
    Mutation {
        name: "forget to close what was accepted after the cancellation",
        hazard: UNOWNED,
        file: "crates/core/src/worker/accepting.rs",
        old: "        if let State::Stopping { .. } = self.state {\n            return self.close_stray(socket);",
        new: "        if let State::Stopping { .. } = self.state {\n            return;",
    },
    Mutation {
        name: "forget to close a file whose asker is gone",
        hazard: UNOWNED,
        file: "crates/core/src/fs/file.rs",
        old: "        self.local.close(Descriptor::Plain(self.descriptor));\n",
        new: "",
    },
    Mutation {
        name: "keep the slot of a future that was dropped",
        hazard: UNOWNED,
        file: "crates/core/src/task/asking.rs",
        old: "            self.local.abandon(self.slot, self.ticket);\n",
        new: "",
    },
    Mutation {
        name: "take a cancelled send with progress for none",
        hazard: CANCEL,
        file: "crates/core/src/connection/sending.rs",
        old: "            Outcome::Count(0) | Outcome::Cancelled | Outcome::Retry if stalled",
        new: "            Outcome::Count(_) | Outcome::Cancelled | Outcome::Retry if stalled",
    },
    Mutation {
        name: "never cancel a stalled send",
        hazard: CANCEL,
        file: "crates/core/src/connection/sending.rs",
        old: concat!(
            "            Sending::InFlight { load, cancelled: false } =>",
            " self.sending = Sending::Overdue { load },\n",
        ),
        new: "",
    },
    Mutation {
        name: "forget to cancel the receive when closing",
        hazard: CANCEL,
        file: "crates/core/src/connection/closing.rs",
        old: "            self.receive = Receive::Armed { cancelled: true };\n            return Some(",
        new: "            self.receive = Receive::Armed { cancelled: true };\n            let _ = Some(",
    },
    Mutation {
        name: "ignore that a receive has ended",
        hazard: ENDED,
        file: "crates/core/src/connection.rs",
        old: "        if !more {\n            self.receive = Receive::Idle;",
        new: "        if false {\n            self.receive = Receive::Idle;",
    },
    Mutation {
        name: "ignore that an accept has ended",
        hazard: ENDED,
        file: "crates/core/src/worker/accepting.rs",
        old: "        if !completion.more {\n            listening.armed = Armed::No;",
        new: "        if false {\n            listening.armed = Armed::No;",
    },
    Mutation {
        name: "arm again at once after EMFILE",
        hazard: EMFILE,
        file: "crates/core/src/worker/accepting.rs",
        old: "                listening.retry_at = Some(self.desk.now + ACCEPT_AGAIN);\n",
        new: "",
    },
    Mutation {
        name: "accept all that come near the limit",
        hazard: EMFILE,
        file: "crates/core/src/worker/accepting.rs",
        old: "        let multishot = others + queue + queue / 8 <= free;",
        new: "        let multishot = others + queue + queue / 8 <= free || true;",
    },
    Mutation {
        name: "go on accepting many at once near the limit",
        hazard: EMFILE,
        file: "crates/core/src/worker/accepting.rs",
        old: "            if armed.map(Listening::burst).sum::<u64>() <= free {",
        new: "            if armed.map(Listening::burst).sum::<u64>() <= free || free > 0 {",
    },
    Mutation {
        name: "arm an accept when there is no place",
        hazard: EMFILE,
        file: "crates/core/src/worker/accepting.rs",
        old: "            || full\n",
        new: "            || full && false\n",
    },
    Mutation {
        name: "forget who waits for a place",
        hazard: STALL,
        file: "crates/core/src/worker/accepting.rs",
        old: "            return self.waiting.push_back((listener, socket));",
        new: "            return;",
    },
    Mutation {
        name: "never accept again after EMFILE",
        hazard: EMFILE,
        file: "crates/core/src/worker/accepting.rs",
        old: "                self.listening[index].retry_at = None;\n                self.arm_accept(index);",
        new: "                self.listening[index].retry_at = None;",
    },
    Mutation {
        name: "believe that a short send took all",
        hazard: SHORT,
        file: "crates/core/src/connection/sending.rs",
        old: "                self.outgoing.sent(n as usize, env.sends);",
        new: "                self.outgoing.sent(load.len, env.sends);",
    },
    Mutation {
        name: "lose handed over bytes after a short send",
        hazard: SHORT,
        file: "crates/core/src/output.rs",
        old: "            if segment.len() > 0 {\n                return;",
        new: "            if segment.len() > 0 && taken == 0 {\n                return;",
    },
    Mutation {
        name: "believe an impossible count of a send",
        hazard: NONSENSE,
        file: "crates/core/src/connection/sending.rs",
        old: concat!(
            "            Outcome::Count(n) if n as usize > load.len =>",
            " self.end(Reason::Failed(libc::EPROTO), env),\n",
        ),
        new: "",
    },
    Mutation {
        name: "believe that a short write took all",
        hazard: SHORT,
        file: "crates/core/src/worker/errands.rs",
        old: "                (n == 0 || n == left).then_some(outcome)\n",
        new: "                *done = bytes.len();\n                Some(outcome)\n",
    },
    Mutation {
        name: "take a failed sync for a sync",
        hazard: DISK,
        file: "crates/core/src/worker/errands.rs",
        old: "Answer::Synced(match outcome {\n                Outcome::Count(_) => Ok(()),\n",
        new: "Answer::Synced(match outcome {\n                Outcome::Count(_) | Outcome::Failed(_) => Ok(()),\n",
    },
    Mutation {
        name: "tell that all was written before an error",
        hazard: DISK,
        file: "crates/core/src/worker/errands.rs",
        old: "                    _ if done > 0 => Ok(done),\n",
        new: "                    _ if done > 0 => Ok(done + 1),\n",
    },
    Mutation {
        name: "write the rest where the first part is",
        hazard: SHORT,
        file: "crates/core/src/worker/errands.rs",
        old: "offset: offset.saturating_add(done as u64),",
        new: "offset,",
    },
    Mutation {
        name: "answer a sync without one",
        hazard: DISK,
        file: "crates/core/src/worker/errands.rs",
        old: "            Request::Sync(file, extent) => self.begin(asker, ticket, What::Sync { file, extent }),\n",
        new: "            Request::Sync(..) => self.answer(asker, ticket, Answer::Synced(Ok(()))),\n",
    },
    Mutation {
        name: "believe an impossible count of a write",
        hazard: NONSENSE,
        file: "crates/core/src/worker/errands.rs",
        old: "                if n > left {\n",
        new: "                if n > left && false {\n",
    },
    Mutation {
        name: "believe an impossible count of a private receive",
        hazard: NONSENSE,
        file: "crates/core/src/connection.rs",
        old: "            Outcome::Count(n) if n > ONCE_LEN => self.end(Reason::Failed(libc::EPROTO), env),\n",
        new: "",
    },
    Mutation {
        name: "take a buffer that the kernel does not have",
        hazard: NONSENSE,
        file: "crates/core/src/buffer_ring.rs",
        old: "        if usize::from(id) >= self.owners.len() || buffers > u32::from(self.count) {",
        new: "        if buffers > u32::from(self.count) {",
    },
    Mutation {
        name: "fall asleep without a last look",
        hazard: WAKE,
        file: "crates/core/src/worker/hosting.rs",
        old: "            if quiet && !hushed {",
        new: "            if quiet {\n                self.ring.hush(false);",
    },
    Mutation {
        name: "allow one kick and never another",
        hazard: WAKE,
        file: "crates/core/src/wake.rs",
        old: "        self.kicked.store(false, Ordering::Release);\n",
        new: "",
    },
    // The moments in which these two lose a wake are too short to be met without a pause.
    Mutation {
        name: "clear the flag after the letters were taken",
        hazard: WAKE,
        file: "crates/core/src/wake.rs",
        old: "        self.kicked.store(false, Ordering::Release);\n        \
              // The store above must not sink below the lock's release, and it cannot: \
              unlocking is a release.\n        \
              std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))",
        new: "        let letters =\n            \
              std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner));\n        \
              std::thread::yield_now();\n        self.kicked.store(false, Ordering::Release);\n        letters",
    },
    Mutation {
        name: "kick before the letter is in the box",
        hazard: WAKE,
        file: "crates/core/src/wake.rs",
        old: "        write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));\n        \
              if !self.kicked.swap(true, Ordering::AcqRel) {\n            self.kick.kick();\n        }\n",
        new: "        if !self.kicked.swap(true, Ordering::AcqRel) {\n            \
              self.kick.kick();\n        }\n        std::thread::yield_now();\n        \
              write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));\n",
    },
    Mutation {
        name: "count what was given back as held",
        hazard: LENT,
        file: "crates/core/src/output/lending.rs",
        old: "        self.held_len -= lent;\n",
        new: "",
    },
    Mutation {
        name: "give back what has other bytes behind it",
        hazard: LENT,
        file: "crates/core/src/output/sink.rs",
        old: "        // What is lent has something behind it now.\n        self.outgoing.keep_lent();\n",
        new: "",
    },
    Mutation {
        name: "give back what a service that has finished lent",
        hazard: LENT,
        file: "crates/core/src/connection/closing.rs",
        old: "        self.outgoing.keep_lent();\n",
        new: "",
    },
    Mutation {
        name: "tell of room before the socket takes bytes again",
        hazard: LENT,
        file: "crates/core/src/connection/calling.rs",
        old: "    if outgoing.is_parked() && urgency == Urgency::CanWait {",
        new: "    if false {",
    },
    Mutation {
        name: "begin the stall time anew with every try",
        hazard: STALL,
        file: "crates/core/src/connection/sending.rs",
        old: "        } else if self.over_at == FOREVER {",
        new: "        } else {",
    },
    Mutation {
        name: "give a slow reader nothing back for what it took",
        hazard: DEADLINE,
        file: "crates/core/src/connection/sending.rs",
        old: "        let at = self.over_at.saturating_add(gained);",
        new: "        let at = self.over_at.saturating_add(gained.min(1));",
    },
    Mutation {
        name: "take any byte of a slow reader for enough",
        hazard: DEADLINE,
        file: "crates/core/src/connection/sending.rs",
        old: "        (self.is_behind, self.over_at) = (at < full, at.min(full));",
        new: "        (self.is_behind, self.over_at) = (at < full, full);",
    },
    Mutation {
        name: "forget what a slow reader owes when bytes were given back",
        hazard: DEADLINE,
        file: "crates/core/src/connection/sending.rs",
        old: "        if std::mem::take(&mut self.rests) {",
        new: "        if std::mem::take(&mut self.rests) && false {",
    },
    Mutation {
        name: "forget that bytes were sent",
        hazard: DEADLINE,
        file: "crates/core/src/connection/sending.rs",
        old: "                    self.ages.touch(now);\n",
        new: "",
    },
    Mutation {
        name: "close as idle what is not waited for",
        hazard: DEADLINE,
        file: "crates/core/src/connection/deadlines.rs",
        old: "        self.agenda.waits_for_input() && !lacks_memory && self.is_all_sent()",
        new: "        !lacks_memory && self.is_all_sent()",
    },
    Mutation {
        name: "let bytes that trickle in extend the time of a frame",
        hazard: DEADLINE,
        file: "crates/core/src/connection/deadlines.rs",
        old: "        } else if self.ages.frame_due == Millis::NEVER {",
        new: "        } else {",
    },
    Mutation {
        name: "let a frame have the time of the one before",
        hazard: DEADLINE,
        file: "crates/core/src/connection/calling.rs",
        old: "            self.ages.frame_went_on();\n",
        new: "",
    },
    Mutation {
        name: "close who is too old without a word",
        hazard: DEADLINE,
        file: "crates/core/src/connection/deadlines.rs",
        old: "            self.agenda.add(Change::Drain);\n",
        new: "",
    },
    Mutation {
        name: "forget that a guest left",
        hazard: GUESTS,
        file: "crates/core/src/worker.rs",
        old: "        self.guests.leave(name.slot);\n",
        new: "",
    },
    Mutation {
        name: "let everybody in",
        hazard: GUESTS,
        file: "crates/core/src/worker/guests.rs",
        old: "            Some(source) if !self.guests.has_place(source, limit) => Err(TurnedAway),\n",
        new: "            Some(source) if !self.guests.has_place(source, limit) && false => Err(TurnedAway),\n",
    },
    Mutation {
        name: "forget who waits for a send buffer",
        hazard: STALL,
        file: "crates/core/src/connection/calling.rs",
        old: "        env.hungry.push_back(name);\n",
        new: "",
    },
    Mutation {
        name: "forget that room came",
        hazard: STALL,
        file: "crates/core/src/connection/sending.rs",
        old: "        self.agenda.room_came();\n",
        new: "",
    },
    Mutation {
        name: "arm a receive of datagrams again at once after ENOBUFS",
        hazard: NO_BUFFERS,
        file: "crates/core/src/worker/datagrams.rs",
        old: "self.feed(|shown, _| shown < now_shown);",
        new: "self.feed(|_, _| now_shown > 0);",
    },
    Mutation {
        name: "forget a datagram socket that found no buffer",
        hazard: NO_BUFFERS,
        file: "crates/core/src/worker/datagrams.rs",
        old: "self.feed(|_, retry_at| retry_at <= now);",
        new: "self.feed(|_, retry_at| retry_at > now);",
    },
    Mutation {
        name: "free a datagram socket while its receive is in flight",
        hazard: DROPPED,
        file: "crates/core/src/worker/datagrams.rs",
        old: "close && socket.receive == Receive::Idle && socket.sending == 0",
        new: "close && socket.sending == 0",
    },
    Mutation {
        name: "ignore that a receive of datagrams has ended",
        hazard: ENDED,
        file: "crates/core/src/worker/datagrams.rs",
        old: "        if !completion.more\n            && let Receive::Armed",
        new: "        if false\n            && let Receive::Armed",
    },
    Mutation {
        name: "forget that datagrams were taken",
        hazard: STALL,
        file: "crates/core/src/udp/counter.rs",
        old: "        if goes_on {",
        new: "        if false {",
    },
    Mutation {
        name: "close although the peer is still sending",
        hazard: "closing with unread input resets the connection",
        file: "crates/core/src/connection/closing.rs",
        old: "                if linger && !self.peer_ended {",
        new: "                if false {",
    },
    Mutation {
        name: "take what epoll says of an earlier life of a number",
        hazard: REUSED,
        file: "crates/core/src/ring/poll.rs",
        old: ".filter(|place| place.key(key.fd) == key)",
        new: "",
    },
    Mutation {
        name: "forget the error that a send met in the middle",
        hazard: SHORT,
        file: "crates/core/src/ring/poll/operations.rs",
        old: "self.place(fd).untold = error.raw_os_error();",
        new: "let _ = error;",
    },
    Mutation {
        name: "keep the slot of an answer that nobody waits for",
        hazard: FUTURE,
        file: "crates/core/src/task/asking.rs",
        old: "        if !self.is_done {",
        new: "        if false {",
    },
    Mutation {
        name: "take an answer for that of whoever had the slot before",
        hazard: FUTURE,
        file: "crates/core/src/local.rs",
        old: concat!(
            "        let Some(awaited) = awaited.filter(|awaited| awaited.ticket == ticket) else {\n",
            "            drop(answers);",
        ),
        new: "        let Some(awaited) = awaited else {\n            drop(answers);",
    },
    Mutation {
        name: "leave a dropped sleep in the wheel",
        hazard: FUTURE,
        file: "crates/core/src/task/sleep.rs",
        old: "            wheel.wheel.cancel(slot);\n",
        new: "",
    },
    Mutation {
        name: "free the slot of a sleep twice",
        hazard: FUTURE,
        file: "crates/core/src/task/sleep.rs",
        old: "            wheel.free.push(slot);",
        new: "            wheel.free.extend([slot, slot]);",
    },
    Mutation {
        name: "write what a dropped write was to write",
        hazard: FUTURE,
        file: "crates/core/src/stream/half.rs",
        old: concat!(
            "        poll_fn(|cx| self.poll_room(cx)).await?;\n",
            "        self.put(|state, local| state.outbox.write(bytes, local));\n",
            "        Ok(())",
        ),
        new: concat!(
            "        self.put(|state, local| state.outbox.write(bytes, local));\n",
            "        poll_fn(|cx| self.poll_room(cx)).await",
        ),
    },
    Mutation {
        name: "forget what is unread when more comes",
        hazard: FUTURE,
        file: "crates/core/src/stream/half.rs",
        old: "    if unread.is_empty() {\n        std::mem::swap",
        new: "    if true {\n        unread.clear();\n        std::mem::swap",
    },
    Mutation {
        name: "let what is sent overtake what was written",
        hazard: FUTURE,
        file: "crates/core/src/stream/pipe.rs",
        old: "        if !self.copied.is_empty() {\n            self.handed_over",
        new: "        if false {\n            self.handed_over",
    },
    Mutation {
        name: "cut a stream when its handler ends that has handed it on",
        hazard: FUTURE,
        file: "crates/core/src/stream/endpoint.rs",
        old: "        drop(handling);\n        drop(call);\n",
        new: concat!(
            "        drop(handling);\n",
            "        drop(call);\n",
            "        (self.pipe.state().reader_gone, self.pipe.state().writer_gone) = (true, true);\n",
        ),
    },
    Mutation {
        name: "lose the wake of a task while it is polled",
        hazard: FUTURE_WAKE,
        file: "crates/core/src/task.rs",
        old: "            && !slot.is_free\n            && !std",
        new: "            && slot.work.is_some()\n            && !std",
    },
    Mutation {
        name: "never poll the handler that waits with its own waker",
        hazard: FUTURE_WAKE,
        file: "crates/core/src/stream/pipe.rs",
        old: "            Waiter::Own => is_own = true,",
        new: "            Waiter::Own => {}",
    },
    Mutation {
        name: "tell nobody that a task was cancelled",
        hazard: FUTURE_WAKE,
        file: "crates/core/src/task/join.rs",
        old: "        if Rc::strong_count(&self.0) > 1 {",
        new: "        if false {",
    },
    Mutation {
        name: "read on for nobody who begins to wait",
        hazard: FUTURE_WAKE,
        file: "crates/core/src/stream/half.rs",
        old: "        let before = std::mem::replace(&mut state.reader, waiter);\n        if state.is_news() {",
        new: "        let before = std::mem::replace(&mut state.reader, waiter);\n        if false {",
    },
];
