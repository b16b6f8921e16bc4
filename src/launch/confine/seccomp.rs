//! The system calls that a sandbox may make.
//!
//! What is not on the list does not exist there (`ENOSYS`): so programs fall back to older ones, as they do on older
//! kernels. What is known, and refused for what it does, is not permitted (`EPERM`), so that a person is told the truth. The
//! list is what shells, editors, kubectl, helm, git, Python, Go and Rust programs need; in spirit that of Moby's default
//! profile, less what takes a capability, and less ptrace, namespaces, keyrings and io_uring.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::ConfineError;
use super::calls::{LISTED, LISTED_HERE, REFUSED, REFUSED_HERE};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Families of sockets: the local machine's, IPv4, IPv6, and netlink, by which a program asks for addresses and routes.
const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// A new process that is in a new namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What puts characters into the input of a terminal, as if they had been typed there.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Where bits 0 to 3 of a socket's type say what it is; above them are flags.
const TYPE: u64 = 0xf;

pub(super) fn apply() -> Result<(), ConfineError> {
    // Of two filters that refuse, the one that was added last gives the reason.
    for filter in [listed()?, refused()?] {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

fn listed() -> Result<BpfProgram, ConfineError> {
    let rules = LISTED.iter().chain(LISTED_HERE);
    let rules = rules.map(|number| (*number, Vec::new())).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    program(rules, unknown, SeccompAction::Allow)
}

fn refused() -> Result<BpfProgram, ConfineError> {
    let rules = REFUSED.iter().chain(REFUSED_HERE);
    let mut rules: Rules = rules.map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_clone, namespaces()?);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_ioctl, typing()?);
    rules.insert(libc::SYS_personality, personalities()?);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    program(rules, SeccompAction::Allow, refused)
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, ConfineError> {
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, otherwise, then, here)?;
    Ok(filter.try_into()?)
}

fn namespaces() -> Result<Vec<SeccompRule>, ConfineError> {
    let rule = |flag| {
        let flag = u64::from(u32::try_from(flag).unwrap_or(u32::MAX));
        all([(0, SeccompCmpOp::MaskedEq(flag), flag)])
    };
    NAMESPACES.into_iter().map(rule).collect()
}

fn sockets() -> Result<Vec<SeccompRule>, ConfineError> {
    let others = FAMILIES.map(|family| (0, SeccompCmpOp::Ne, family as u64));
    let netlink = libc::AF_NETLINK as u64;
    Ok(vec![
        all(others)?,
        // Raw ones write packets of their own. Of netlink it is only a name.
        all([
            (0, SeccompCmpOp::Ne, netlink),
            (1, SeccompCmpOp::MaskedEq(TYPE), libc::SOCK_RAW as u64),
        ])?,
        // Of netlink only addresses and routes: other protocols are a kernel's inner parts.
        all([
            (0, SeccompCmpOp::Eq, netlink),
            (2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE as u64),
        ])?,
    ])
}

fn typing() -> Result<Vec<SeccompRule>, ConfineError> {
    // The kernel looks at the lower half only.
    let rule = |request| all([(1, SeccompCmpOp::Eq, request)]);
    TYPING.into_iter().map(rule).collect()
}

/// All but the ordinary one, and the question which one it is.
fn personalities() -> Result<Vec<SeccompRule>, ConfineError> {
    let (ordinary, question) = (0, u64::from(u32::MAX));
    Ok(vec![all([
        (0, SeccompCmpOp::Ne, ordinary),
        (0, SeccompCmpOp::Ne, question),
    ])?])
}

/// A rule that holds where all of these do: argument, comparison, value. Of arguments the lower 32 bits count.
fn all<const N: usize>(
    conditions: [(u8, SeccompCmpOp, u64); N],
) -> Result<SeccompRule, ConfineError> {
    let conditions: Result<Vec<_>, _> = conditions
        .into_iter()
        .map(|(argument, comparison, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
        })
        .collect();
    Ok(SeccompRule::new(conditions?)?)
}
