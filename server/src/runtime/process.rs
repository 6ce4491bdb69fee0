//! What concerns the whole process: signals, privileges, descriptors.
#![allow(unsafe_code, reason = "privileges and limits are system calls without a safe wrapper here")]

use std::{ffi::CString, fs, io, os::fd::AsRawFd, ptr};

use socket2::Socket;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals a server obeys, caught from the moment this exists.
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let hangup = signal(SignalKind::hangup())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        drop(guard);
        Ok(Self { runtime, hangup, interrupt, terminate })
    }

    /// Waits for SIGTERM or SIGINT; calls `reload` for every SIGHUP on the way.
    pub fn wait(&mut self, mut reload: impl FnMut()) {
        let Self { runtime, hangup, interrupt, terminate } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => reload(),
                }
            }
        });
    }
}

/// Raises the limit of open descriptors as far as the operating system lets us, at most to `wanted`. Gives the limit
/// now in force.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    // Root may raise the hard limit too; when that is refused, the soft one may still go up to the hard one.
    for (rlim_cur, rlim_max) in [(wanted, limit.rlim_max.max(wanted)), (wanted.min(limit.rlim_max), limit.rlim_max)] {
        let raised = libc::rlimit { rlim_cur, rlim_max };
        // SAFETY: `raised` is a valid limit to read from.
        if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).is_ok() {
            return Ok(rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

/// Memory of the machine in octets, or what a container leaves us of it; `None` when the kernel does not say.
pub fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    // Version 2 of control groups, then version 1; "max" and a number beyond all memory mean no limit.
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.into_iter().chain(limit).min()
}

/// Octets that this process may still write to the file system of `path`.
///
/// # Errors
/// When there is no such path, or the file system does not say.
pub fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: statvfs is plain data of integers, for which all zeroes is valid.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a NUL-terminated string and `facts` a valid place for the result.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) })?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The ids of `user`, and of `group` or of the user's main group.
///
/// # Errors
/// When there is no such user or group.
pub fn ids_of(user: &str, group: Option<&str>) -> io::Result<(u32, u32)> {
    let (uid, main_group) = user_ids(&CString::new(user)?)?;
    Ok((uid, group.map_or(Ok(main_group), group_id)?))
}

/// The user at the other end of a connected unix socket, as the kernel knows it (`SO_PEERCRED`).
///
/// # Errors
/// When it is no such socket.
pub fn peer_user(socket: &Socket) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    let place = (&raw mut found).cast();
    // SAFETY: `place` is `length` octets of plain integers, and the descriptor is that of a socket that is alive.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut length)
    })?;
    Ok(found.uid)
}

/// Whether that user may do with our data what it likes anyway: root, and the user that this process runs as.
pub fn is_administrator(uid: u32) -> bool {
    // SAFETY: no memory is involved.
    uid == 0 || uid == unsafe { libc::geteuid() }
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes `user` for good, with the user's groups (or `group` instead of the user's main group). To be called after
/// sockets are bound and before any connection is accepted or any other thread is started.
///
/// # Errors
/// When there is no such user or group, or the process may not change to it. The server must not go on then.
pub fn drop_privileges(user: &str, group: Option<&str>) -> io::Result<()> {
    let name = CString::new(user)?;
    let (uid, gid) = ids_of(user, group)?;
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setgid(gid) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setuid(uid) })?;
    // SAFETY: no memory is involved.
    if uid != 0 && unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("privileges could be taken back after they were dropped"));
    }
    Ok(())
}

fn user_ids(name: &CString) -> io::Result<(libc::uid_t, libc::gid_t)> {
    let mut buffer: Vec<libc::c_char> = vec![0; 16 * 1024];
    // SAFETY: passwd is plain data of integers and pointers, for which all zeroes is valid.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: every pointer is valid for the call, and the buffer's length is its own.
    let code =
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    if found.is_null() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no user {}", name.to_string_lossy())));
    }
    Ok((entry.pw_uid, entry.pw_gid))
}

fn group_id(name: &str) -> io::Result<libc::gid_t> {
    let c_name = CString::new(name)?;
    let mut buffer: Vec<libc::c_char> = vec![0; 64 * 1024];
    // SAFETY: group is plain data of integers and pointers, for which all zeroes is valid.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: every pointer is valid for the call, and the buffer's length is its own.
    let code =
        unsafe { libc::getgrnam_r(c_name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    if found.is_null() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no group {name}")));
    }
    Ok(entry.gr_gid)
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_users_and_groups_are_refused_by_name() {
        let error = drop_privileges("no-such-user-here", None).expect_err("unknown");
        assert!(error.to_string().contains("no-such-user-here"));
        assert!(group_id("no-such-group-here").is_err());
        assert_eq!(group_id("root").expect("root exists"), 0);
        assert_eq!(user_ids(&CString::new("root").expect("name")).expect("root exists"), (0, 0));
    }

    #[test]
    fn a_file_system_says_how_much_is_free() {
        assert!(free_bytes(std::path::Path::new("/")).is_ok());
        assert!(free_bytes(std::path::Path::new("/no-such-folder-here")).is_err());
    }

    #[test]
    fn a_lower_wish_leaves_the_descriptor_limit_alone() {
        assert!(raise_descriptor_limit(16).expect("limit") >= 16);
    }

    #[test]
    fn a_hangup_reloads_and_a_term_ends_the_wait() {
        let mut signals = Signals::catch().expect("signals");
        let send = |number| {
            // SAFETY: raises a signal that is caught.
            check(unsafe { libc::raise(number) }).expect("signal");
        };
        send(libc::SIGHUP);
        let mut reloads = 0;
        signals.wait(|| {
            reloads += 1;
            send(libc::SIGTERM);
        });
        assert_eq!(reloads, 1);
    }
}
