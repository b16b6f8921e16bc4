//! Applies the terminal modes that a client asked for (RFC 4254, 8).

use std::os::fd::AsFd;

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    tcgetattr, tcsetattr,
};

/// Sets what is known of `modes`; the rest stays as the kernel made it.
pub(super) fn apply(terminal: impl AsFd, modes: &[(u8, u32)]) -> rustix::io::Result<()> {
    let mut termios = tcgetattr(&terminal)?;
    for &(opcode, value) in modes {
        set(&mut termios, opcode, value);
    }
    tcsetattr(terminal, OptionalActions::Now, &termios)
}

fn set(termios: &mut Termios, opcode: u8, value: u32) {
    let on = value != 0;
    match opcode {
        1..=18 => {
            if let (Some(index), Ok(code)) = (special_code(opcode), u8::try_from(value)) {
                // 255 is RFC 4254's way to say "none"; the kernel's is 0.
                termios.special_codes[index] = if code == 255 { 0 } else { code };
            }
        }
        30..=42 => {
            if let Some(mode) = input_mode(opcode) {
                termios.input_modes.set(mode, on);
            }
        }
        50..=62 => {
            if let Some(mode) = local_mode(opcode) {
                termios.local_modes.set(mode, on);
            }
        }
        70..=75 => {
            if let Some(mode) = output_mode(opcode) {
                termios.output_modes.set(mode, on);
            }
        }
        92 => termios.control_modes.set(ControlModes::PARENB, on),
        93 => termios.control_modes.set(ControlModes::PARODD, on),
        _ => {}
    }
}

fn special_code(opcode: u8) -> Option<SpecialCodeIndex> {
    Some(match opcode {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(opcode: u8) -> Option<InputModes> {
    Some(match opcode {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(opcode: u8) -> Option<LocalModes> {
    Some(match opcode {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(opcode: u8) -> Option<OutputModes> {
    Some(match opcode {
        70 => OutputModes::OPOST,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_reach_the_terminal_and_unknown_ones_do_nothing() {
        let (pty, _pts) = pty_process::blocking::open().unwrap();
        apply(&pty, &[(3, 8), (53, 0), (42, 1), (200, 7), (1, 255)]).unwrap();
        let termios = tcgetattr(&pty).unwrap();
        assert_eq!(termios.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(termios.special_codes[SpecialCodeIndex::VINTR], 0);
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert!(termios.input_modes.contains(InputModes::IUTF8));
    }
}
