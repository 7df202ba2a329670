//! Work is the count of bytes that decoders looked at, kept only in tests: linear time is shown by counting.

/// Notes that `bytes` bytes were looked at.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn note(_bytes: usize) {}

#[cfg(test)]
std::thread_local! {
    static BYTES: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

#[cfg(test)]
pub(crate) fn note(bytes: usize) {
    BYTES.with(|count| count.set(count.get() + bytes));
}

/// The bytes that decoders on this thread looked at while `f` ran.
#[cfg(test)]
pub(crate) fn during(f: impl FnOnce()) -> usize {
    let before = BYTES.with(core::cell::Cell::get);
    f();
    BYTES.with(core::cell::Cell::get) - before
}
