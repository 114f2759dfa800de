//! x32: x86-64 with 32-bit addresses. The kernel tells its calls from those of x86-64 by a bit of
//! the number. They are numbered alike, but for those whose arguments lie in memory in another
//! shape; the kernel refuses the x86-64 number of these with the bit.

/// The bit (`__X32_SYSCALL_BIT`).
pub(in crate::seccomp) const BIT: u32 = 0x4000_0000;

/// The first number of those that differ.
pub(in crate::seccomp) const FIRST_OWN: u32 = 512;

/// The calls that differ, from [`FIRST_OWN`] on, as x86-64 numbers them.
pub(in crate::seccomp) const OWN: [i64; 36] = [
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_ioctl,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_execve,
    libc::SYS_ptrace,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_timer_create,
    libc::SYS_mq_notify,
    libc::SYS_kexec_load,
    libc::SYS_waitid,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_vmsplice,
    libc::SYS_move_pages,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_execveat,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
];
