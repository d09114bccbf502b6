//! Which devices a container may use: lines for version 1, a program for version 2. Pure.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType as Kind};

use crate::Error;

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// A rule whose words have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `None`: both types, with every number.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

fn read(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut read = Vec::with_capacity(rules.len());
    for rule in rules {
        let invalid = |what: &str| Error::Invalid(format!("device rule {rule}: {what}"));
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number).map(Some).map_err(|_| invalid("a number is out of range")),
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or_default().chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(invalid("access is made of r, w and m")),
            };
        }
        if access == 0 {
            return Err(invalid("it says nothing about access"));
        }
        let (allow, major, minor) = (rule.allow(), number(rule.major())?, number(rule.minor())?);
        let kinds = match rule.typ().unwrap_or_default() {
            Kind::C | Kind::U => vec![Some(CHARACTER)],
            Kind::B => vec![Some(BLOCK)],
            Kind::A if major.is_none() && minor.is_none() => vec![None],
            // The kernel would take "a 1:3" for everything.
            Kind::A => vec![Some(BLOCK), Some(CHARACTER)],
            Kind::P => return Err(invalid("a pipe is no device")),
        };
        read.extend(kinds.into_iter().map(|kind| Rule { allow, kind, major, minor, access }));
    }
    Ok(read)
}

/// Lines for `devices.allow` (`true`) and `devices.deny`, in order.
pub(crate) fn lines(rules: &[LinuxDeviceCgroup]) -> Result<Vec<(bool, String)>, Error> {
    let line = |rule: Rule| {
        let kind = match rule.kind {
            // With "a" the kernel looks at nothing else.
            None if rule.access == READ | WRITE | MKNOD => return vec![(rule.allow, "a".to_owned())],
            None => vec!['b', 'c'],
            Some(BLOCK) => vec!['b'],
            Some(_) => vec!['c'],
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .into_iter()
            .filter(|(bit, _)| rule.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect();
        kind.into_iter()
            .map(|kind| (rule.allow, format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))))
            .collect()
    };
    Ok(read(rules)?.into_iter().flat_map(line).collect())
}

/// An eBPF program for `BPF_PROG_TYPE_CGROUP_DEVICE`: the last rule that speaks of the device and the access counts; what no rule
/// speaks of is refused.
pub(crate) fn program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<u64>, Error> {
    const LOAD: u8 = 0x61;
    const COPY: u8 = 0xbf;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const SET: u8 = 0xb7;
    const JUMP_NOT: u8 = 0x55;
    const JUMP_IS: u8 = 0x15;
    const EXIT: u8 = 0x95;
    let op = |code: u8, to: u8, from: u8, offset: i16, value: u32| {
        u64::from(code)
            | u64::from(from << 4 | to) << 8
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(value) << 32
    };
    let rules = read(rules)?;
    if rules.len() > 400 {
        return Err(Error::Unsupported(format!("{} device rules; 400 are possible", rules.len())));
    }
    // r2 type, r3 access, r4 major, r5 minor of the request.
    let mut code = vec![
        op(LOAD, 2, 1, 0, 0),
        op(COPY, 3, 2, 0, 0),
        op(AND, 2, 0, 0, 0xffff),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD, 4, 1, 4, 0),
        op(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        let checks = [(2, rule.kind), (4, rule.major), (5, rule.minor)];
        tests.extend(checks.into_iter().filter_map(|(register, wanted)| Some((JUMP_NOT, register, wanted?))));
        let mut block = Vec::new();
        if rule.access != READ | WRITE | MKNOD {
            // An allowance must cover all of the access, a refusal is for any part of it.
            let mask = if rule.allow { !rule.access & 7 } else { rule.access };
            block.push(op(COPY, 1, 3, 0, 0));
            block.push(op(AND, 1, 0, 0, mask));
            tests.push((if rule.allow { JUMP_NOT } else { JUMP_IS }, 1, 0));
        }
        // Each test that fails jumps over the rest of the rule: what is left of the tests, and the answer.
        let prelude = block.len();
        let plain = tests.len() - usize::from(prelude > 0);
        let length = tests.len() + prelude + 2;
        let jump = |at: usize| i16::try_from(length - at - 1).unwrap_or(0);
        for (at, (code_, register, value)) in tests[..plain].iter().enumerate() {
            code.push(op(*code_, *register, 0, jump(at), *value));
        }
        code.append(&mut block);
        if let Some((code_, register, value)) = tests.get(plain) {
            code.push(op(*code_, *register, 0, jump(plain + prelude), *value));
        }
        code.push(op(SET, 0, 0, 0, rule.allow.into()));
        code.push(op(EXIT, 0, 0, 0, 0));
        if length == 2 {
            // It is about everything. The kernel refuses a program with a part that is never reached.
            return Ok(code);
        }
    }
    code.push(op(SET, 0, 0, 0, 0));
    code.push(op(EXIT, 0, 0, 0, 0));
    Ok(code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::defaults::{all_devices, device_rule, device_rules};

    /// Runs the few instructions that [`program`] uses.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let op = program[at];
            let (code, to, from) = (op as u8, (op >> 8 & 15) as usize, (op >> 12 & 15) as usize);
            let (offset, value) = ((op >> 16) as i16, (op >> 32) as u32);
            at += 1;
            match code {
                0x61 => registers[to] = context[offset as usize / 4].into(),
                0xbf => registers[to] = registers[from],
                0x54 => registers[to] = u64::from(registers[to] as u32 & value),
                0x74 => registers[to] = u64::from(registers[to] as u32 >> value),
                0xb7 => registers[to] = value.into(),
                0x55 if registers[to] != u64::from(value) => at += offset as usize,
                0x15 if registers[to] == u64::from(value) => at += offset as usize,
                0x55 | 0x15 => {}
                0x95 => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_default_rules_as_lines() {
        let lines = lines(&device_rules()).unwrap();
        assert_eq!(lines[0], (false, "a".to_owned()));
        assert_eq!(lines[1], (true, "c *:* m".to_owned()));
        assert!(lines.contains(&(true, "c 136:* rwm".to_owned())));
        assert!(lines.contains(&(true, "c 1:3 rwm".to_owned())));
    }

    #[test]
    fn the_default_rules_as_a_program() {
        let program = program(&device_rules()).unwrap();
        let allowed = |kind, access, major, minor| run(&program, kind, access, major, minor) == 1;
        assert!(allowed(CHARACTER, READ | WRITE, 1, 3), "/dev/null");
        assert!(allowed(CHARACTER, READ | WRITE | MKNOD, 5, 2), "/dev/ptmx");
        assert!(allowed(CHARACTER, WRITE, 136, 7), "/dev/pts/7");
        assert!(allowed(BLOCK, MKNOD, 8, 0), "a node may be made");
        assert!(!allowed(BLOCK, READ, 8, 0), "and not be opened");
        assert!(!allowed(BLOCK, READ | MKNOD, 8, 0));
        assert!(!allowed(CHARACTER, READ, 1, 1), "/dev/mem");
        assert!(!allowed(CHARACTER, WRITE, 10, 229), "/dev/fuse");
    }

    #[test]
    fn the_last_rule_counts() {
        let mut rules = all_devices();
        rules.push(device_rule(false, Kind::C, Some(1), Some(1), "w"));
        let program = program(&rules).unwrap();
        assert_eq!(run(&program, CHARACTER, READ, 1, 1), 1);
        assert_eq!(run(&program, CHARACTER, WRITE, 1, 1), 0);
        assert_eq!(run(&program, CHARACTER, READ | WRITE, 1, 1), 0);
        assert_eq!(run(&program, BLOCK, READ | WRITE, 1, 1), 1);
    }

    #[test]
    fn nothing_is_taken_for_everything() {
        let half = [device_rule(true, Kind::A, Some(1), Some(3), "r")];
        assert_eq!(lines(&half).unwrap(), [(true, "b 1:3 r".to_owned()), (true, "c 1:3 r".to_owned())]);
        let read = [device_rule(true, Kind::A, None, None, "r")];
        assert_eq!(lines(&read).unwrap(), [(true, "b *:* r".to_owned()), (true, "c *:* r".to_owned())]);
        assert!(lines(&[device_rule(true, Kind::C, None, None, "x")]).is_err());
        assert!(lines(&[device_rule(true, Kind::C, None, None, "")]).is_err());
        assert!(lines(&[device_rule(true, Kind::P, None, None, "r")]).is_err());
        assert!(lines(&[device_rule(true, Kind::C, Some(1 << 40), None, "r")]).is_err());
    }
}
