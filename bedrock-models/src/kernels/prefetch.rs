//! Asking for memory before it is read: hints, which may name any address.

/// Bytes ahead of what is multiplied that are asked for: the processor's own prefetching ends with each page of memory.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), expect(dead_code))]
pub(super) const AHEAD: usize = 4096;

/// Asks for bytes to be brought into the second cache.
pub(super) fn ask_for(from: *const u8, bytes: usize) {
    (0..bytes).step_by(64).for_each(|line| ask::<false>(from.wrapping_add(line)));
}

/// Asks for a line of 64 bytes to be brought into the first cache.
#[inline(always)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), expect(dead_code))]
pub(super) fn ask_near(at: *const u8) {
    ask::<true>(at);
}

/// Asks for bytes to be brought into the first cache.
#[cfg(target_arch = "x86_64")]
pub(super) fn lines_near(from: *const u8, bytes: usize) {
    (0..bytes).step_by(64).for_each(|line| ask_near(from.wrapping_add(line)));
}

/// Asks for the line at an address to be brought into the first cache, or into the second.
#[inline(always)]
fn ask<const FIRST: bool>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is read.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if FIRST { _mm_prefetch::<_MM_HINT_T0>(at.cast()) } else { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: nothing is read.
    unsafe {
        use std::arch::asm;
        if FIRST {
            asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
        } else {
            asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
