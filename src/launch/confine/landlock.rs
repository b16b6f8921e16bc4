//! Where a sandbox may write: Landlock rules, beside the mounts that say the same.

use std::os::fd::AsFd;
use std::path::Path;

use ::landlock::{
    ABI, Access, AccessFs, LandlockStatus, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

use super::{ConfineError, Confinement};

/// The newest rights that are used here; older kernels know fewer. Later ones are about sockets in the file system, of which
/// none of ours is in sight.
const NEWEST: ABI = ABI::V8;

pub(super) fn apply(confinement: &Confinement) -> Result<(), ConfineError> {
    let wanted = confinement.landlock_abi;
    if wanted == 0 {
        return Ok(());
    }
    let status = rules(&confinement.home)?.restrict_self()?;
    let has = number(&status);
    match has >= wanted {
        true => Ok(()),
        false => Err(ConfineError::Landlock { has, wanted }),
    }
}

/// The Landlock ABI of this kernel; 0: it has none, or it was not enabled at boot. No more than the newest that is known here.
pub fn supported() -> Result<u8, ConfineError> {
    // The only way to ask is to be restricted: so a thread asks that does nothing else.
    let asking = std::thread::spawn(|| {
        let ruleset = Ruleset::default()
            .scope(Scope::Signal)?
            .create()?
            .restrict_self()?;
        Ok::<_, RulesetError>(number(&ruleset))
    });
    match asking.join() {
        Ok(number) => Ok(number?),
        Err(_) => Err(ConfineError::Unknown),
    }
}

fn rules(home: &Path) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        // Process 1 gets its signals from outside, which this does not hinder.
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(
            [
                home,
                Path::new("/tmp"),
                Path::new("/run"),
                Path::new("/dev"),
            ],
            all,
        ))?;
    // The terminal is from outside: no path in here leads to it, but `/dev/stdout` does.
    let stdin = std::io::stdin();
    if rustix::termios::isatty(&stdin) {
        let rights = AccessFs::from_file(NEWEST) & !AccessFs::Execute;
        ruleset = ruleset.add_rule(PathBeneath::new(stdin.as_fd(), rights))?;
    }
    Ok(ruleset)
}

fn number(status: &RestrictionStatus) -> u8 {
    match status.landlock {
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_with_an_older_landlock_than_is_needed_is_refused() {
        // In a thread: it stays restricted.
        let refused = std::thread::spawn(|| {
            apply(&Confinement {
                landlock_abi: 200,
                processes: 1,
                open_files: 1,
                memory: 1,
                home: "/home".into(),
            })
        });
        let refused = refused.join().unwrap().unwrap_err().to_string();
        assert!(refused.contains("asks for 200"), "{refused}");
    }

    #[test]
    fn asking_what_the_kernel_has_restricts_nobody_else() {
        let has = supported().unwrap();
        println!("Landlock ABI {has}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "still").unwrap();
    }
}
