//! Users and groups as a container's own `/etc/passwd` and `/etc/group` name them. Pure: works on the files' bytes.
//!
//! The rules are Docker's: a number is always a number and never a name; without a group the user's own and those that
//! list the user apply, with a group only that one; the primary group is always among the supplementary ones
//! (CVE-2022-36109); nothing is beyond 2147483647 (CVE-2024-40635).

use crate::protocol::Reason;

const MAX_ID: u32 = i32::MAX as u32;

/// Who a process is going to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The home directory, when the user is in the file.
    pub(crate) home: Option<&'a [u8]>,
}

/// A list of group numbers in memory of the caller's.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    list: &'a mut [u32],
    count: usize,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(list: &'a mut [u32]) -> Self {
        Self { list, count: 0 }
    }

    fn push(&mut self, gid: u32) -> Result<(), Reason> {
        *self.list.get_mut(self.count).ok_or(Reason::AccountsUnreadable)? = gid;
        self.count += 1;
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.list[..self.count]
    }
}

/// What a specification names: a number or a name.
#[derive(Clone, Copy)]
enum Named<'a> {
    Number(u32),
    Name(&'a [u8]),
}

fn named(text: &[u8]) -> Result<Named<'_>, Reason> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(Named::Name(text));
    }
    number(text).map(Named::Number).ok_or(Reason::IdOutOfRange)
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let mut value = 0u64;
    for byte in text {
        value = value.checked_mul(10)?.checked_add(u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
    }
    u32::try_from(value).ok().filter(|value| *value <= MAX_ID && !text.is_empty())
}

/// The lines that have at least `N` fields, as their first `N` fields.
fn entries<const N: usize>(file: &[u8]) -> impl Iterator<Item = [&[u8]; N]> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let mut entry = [&line[..0]; N];
        for place in &mut entry {
            *place = fields.next()?;
        }
        (!entry[0].is_empty() && !entry[0].starts_with(b"#")).then_some(entry)
    })
}

/// A line of `/etc/passwd` whose numbers make sense: name, uid, gid, home.
fn users(passwd: &[u8]) -> impl Iterator<Item = (&[u8], u32, u32, &[u8])> {
    entries::<6>(passwd).filter_map(|[name, _, uid, gid, _, home]| Some((name, number(uid)?, number(gid)?, home)))
}

/// A line of `/etc/group` whose number makes sense: name, gid, members.
fn groups(group: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    entries::<4>(group).filter_map(|[name, _, gid, members]| Some((name, number(gid)?, members)))
}

fn find_group(group: &[u8], wanted: &[u8]) -> Result<u32, Reason> {
    match named(wanted)? {
        Named::Number(gid) => Ok(gid),
        Named::Name(name) => {
            groups(group).find(|(found, ..)| *found == name).map(|(_, gid, _)| gid).ok_or(Reason::NoSuchGroup)
        }
    }
}

/// Resolves `user`, `uid`, `user:group` or `uid:gid`; empty is the superuser. The supplementary groups go to `list`.
pub(crate) fn resolve<'a>(
    specification: &[u8],
    passwd: &'a [u8],
    group: &[u8],
    list: &mut Groups<'_>,
) -> Result<Identity<'a>, Reason> {
    let mut parts = specification.splitn(2, |byte| *byte == b':');
    let user = parts.next().unwrap_or_default();
    let wanted_group = parts.next().unwrap_or_default();

    let wanted = if user.is_empty() { Named::Number(0) } else { named(user)? };
    let found = users(passwd).find(|(name, uid, ..)| match wanted {
        Named::Number(number) => number == *uid,
        Named::Name(wanted) => wanted == *name,
    });
    let mut identity = match (found, wanted) {
        (Some((_, uid, gid, home)), _) => Identity { uid, gid, home: Some(home).filter(|home| !home.is_empty()) },
        (None, Named::Number(uid)) => Identity { uid, gid: 0, home: None },
        (None, Named::Name(_)) => return Err(Reason::NoSuchUser),
    };
    if !wanted_group.is_empty() {
        identity.gid = find_group(group, wanted_group)?;
    }
    list.push(identity.gid)?;
    if let (Some((name, ..)), true) = (found, wanted_group.is_empty()) {
        for (_, gid, members) in groups(group) {
            if gid != identity.gid && members.split(|byte| *byte == b',').any(|member| member == name) {
                list.push(gid)?;
            }
        }
    }
    Ok(identity)
}

/// Adds a group that was asked for on top, by name or number.
pub(crate) fn add_group(wanted: &[u8], group: &[u8], list: &mut Groups<'_>) -> Result<(), Reason> {
    let gid = find_group(group, wanted)?;
    if list.as_slice().contains(&gid) {
        return Ok(());
    }
    list.push(gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment:x:9:9::/:\nbad:x:abc:1:::\nshort:x:5\n\
        1000:x:0:0:trap:/trap:/bin/sh\nbuild:x:1001:1002::/home/build:/bin/sh\nnohome:x:1003:1003:::\n";
    const GROUP: &[u8] =
        b"root:x:0:root\nwheel:x:10:root,build\nbuild:x:1002:\n500:x:0:\ndisk:x:6:root,other\nbuild2:x:1002:build\n";

    type Who = (u32, u32, Option<&'static [u8]>, Vec<u32>);

    fn who(specification: &str) -> Result<Who, Reason> {
        let mut room = [0; 8];
        let mut list = Groups::new(&mut room);
        let identity = resolve(specification.as_bytes(), PASSWD, GROUP, &mut list)?;
        Ok((identity.uid, identity.gid, identity.home, list.as_slice().to_vec()))
    }

    #[test]
    fn the_superuser_is_the_default() {
        let root: Who = (0, 0, Some(b"/root"), std::vec![0, 10, 6]);
        assert_eq!(who(""), Ok(root.clone()));
        assert_eq!(who("root"), Ok(root.clone()));
        assert_eq!(who("0"), Ok(root));
    }

    #[test]
    fn names_and_numbers_are_found() {
        let build: Who = (1001, 1002, Some(b"/home/build"), std::vec![1002, 10]);
        assert_eq!(who("build"), Ok(build.clone()));
        assert_eq!(who("1001"), Ok(build));
        assert_eq!(who("build:wheel").map(|it| (it.1, it.3)), Ok((10, std::vec![10])));
        assert_eq!(who("7:8"), Ok((7, 8, None, std::vec![8])));
        assert_eq!(who("7"), Ok((7, 0, None, std::vec![0])));
        assert_eq!(who(":wheel").map(|it| (it.0, it.1)), Ok((0, 10)));
        assert_eq!(who("nohome").map(|it| it.2), Ok(None));
    }

    #[test]
    fn a_number_is_never_a_name() {
        assert_eq!(who("1000").map(|it| it.0), Ok(1000));
        assert_eq!(who("7:500").map(|it| it.1), Ok(500));
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        assert_eq!(who("nobody"), Err(Reason::NoSuchUser));
        assert_eq!(who("bad"), Err(Reason::NoSuchUser));
        assert_eq!(who("short"), Err(Reason::NoSuchUser));
        assert_eq!(who("root:none"), Err(Reason::NoSuchGroup));
        for number in ["2147483648", "4294967296", "-1", "99999999999999999999999"] {
            assert_eq!(who(number), Err(Reason::IdOutOfRange), "{number}");
            assert_eq!(who(&std::format!("root:{number}")), Err(Reason::IdOutOfRange), "{number}");
        }
        assert_eq!(who("2147483647").map(|it| it.0), Ok(2_147_483_647));
    }

    #[test]
    fn further_groups_are_added_once() {
        let mut room = [0; 4];
        let mut list = Groups::new(&mut room);
        resolve(b"7:10", PASSWD, GROUP, &mut list).unwrap();
        assert_eq!(add_group(b"wheel", GROUP, &mut list), Ok(()));
        assert_eq!(add_group(b"disk", GROUP, &mut list), Ok(()));
        assert_eq!(add_group(b"77", GROUP, &mut list), Ok(()));
        assert_eq!(add_group(b"none", GROUP, &mut list), Err(Reason::NoSuchGroup));
        assert_eq!(list.as_slice(), [10, 6, 77]);
        assert_eq!(add_group(b"78", GROUP, &mut list), Ok(()));
        assert_eq!(add_group(b"79", GROUP, &mut list), Err(Reason::AccountsUnreadable));
    }
}
