//! The process that holds a pod's namespaces open: PID 1 of every sandbox.
//!
//! It does two things: it reaps the orphans of a shared PID namespace, and it exits at SIGTERM or
//! SIGINT. `build.rs` compiles it with the same rustc as everything else, without std
//! and libc, into a static program of about a kilobyte that becomes the only file of the pause
//! image: there is no registry to pull one from.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::null;

const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub const EXIT: usize = 93;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

// The kernel enters with an aligned stack and no return address.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl {main}", "brk #0", main = sym main);

extern "C" fn main() -> ! {
    // Blocked and waited for, not handled: a blocked signal reaches even PID 1, which the kernel
    // otherwise shields from signals that it has no handler for.
    let signals: u64 = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);
    // SAFETY: the kernel reads eight bytes at `signals`, which outlives both calls, and writes
    // nothing: the old mask, the signal's info and the timeout are null.
    unsafe {
        syscall(nr::RT_SIGPROCMASK, SIG_BLOCK, &raw const signals as usize, 0, 8);
    }
    loop {
        // SAFETY: as above.
        let signal = unsafe {
            syscall(nr::RT_SIGTIMEDWAIT, &raw const signals as usize, null::<u8>() as usize, 0, 8)
        };
        match u64::try_from(signal) {
            Ok(SIGINT | SIGTERM) => exit(),
            Ok(SIGCHLD) => reap(),
            _ => {}
        }
    }
}

fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

fn reap() {
    // SAFETY: status and usage are null; the kernel writes nothing.
    while unsafe { syscall(nr::WAIT4, ANY_CHILD, 0, WNOHANG, 0) } > 0 {}
}

fn exit() -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { syscall(nr::EXIT, 0, 0, 0, 0) };
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the x86-64 Linux convention: rcx and r11 are lost; what the pointers mean is the
    // caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b,
             in("rdx") c, in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the arm64 Linux convention; what the pointers mean is the caller's promise.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
             in("x3") d, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit()
}
