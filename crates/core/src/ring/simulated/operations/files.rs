//! Files: opened, read, written and synced, and their names changed.

use crate::flight::{Flight, FlightIndex};
use crate::operation::{Memory, flight};
use crate::ring::simulated::world::World;
use crate::send_pool::BufferIndex;

use super::{Running, Step, done, failed, opened};

pub(super) fn open(world: &mut World, memory: &Memory, path: FlightIndex, direct: bool) -> Step {
    let Flight::Path { path, how, .. } = flight(memory, path) else {
        panic!("opening a file names its path")
    };
    match world.open_file(path.as_bytes(), how.flags as i32) {
        Ok(file) => opened(world.open(file, direct)),
        Err(errno) => failed(errno),
    }
}

pub(super) fn change_names(world: &mut World, memory: &Memory, names: FlightIndex) -> Step {
    let Flight::Change { kind, path, to } = flight(memory, names) else { panic!("a change has names") };
    world.change_names(*kind, path.as_bytes(), to.as_bytes()).map_or_else(failed, |()| done(0))
}

impl Running {
    pub(super) fn read_file(
        &mut self,
        world: &mut World,
        memory: &Memory,
        into: BufferIndex,
        len: usize,
        offset: u64,
    ) -> Step {
        match world.read_file(self.thing.expect("resolved when it started"), offset, len) {
            Ok(bytes) => done(memory.files.fill_as_kernel(into, |memory| {
                memory[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            })),
            Err(errno) => failed(errno),
        }
    }

    pub(super) fn write_file(&mut self, world: &mut World, offset: u64) -> Step {
        let bytes = self.read_ranges();
        if bytes != self.snapshot {
            world.violated(format!("{:?}: what is being written was changed", self.token));
        }
        let file = self.thing.expect("resolved when it started");
        world.write_file(file, offset, &bytes).map_or_else(failed, done)
    }

    pub(super) fn sync_file(&mut self, world: &mut World) -> Step {
        let file = self.thing.expect("resolved when it started");
        world.sync_file(file).map_or_else(failed, |()| done(0))
    }
}
