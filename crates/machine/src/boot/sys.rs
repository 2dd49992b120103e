//! The one instruction that Rust cannot check.
#![allow(
    unsafe_code,
    reason = "the time stamp counter is read by an instruction of its own"
)]

/// The processor's time stamp counter.
pub(super) fn ticks() -> u64 {
    // SAFETY: needed because no safe function reads the counter. It is sound because the
    // instruction takes nothing, touches no memory, and is part of every x86-64 processor.
    unsafe { std::arch::x86_64::_rdtsc() }
}
