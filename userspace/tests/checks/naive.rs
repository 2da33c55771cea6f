//! A second reader of DHCPv4 messages, as the RFCs tell it, copying everything.

use std::collections::BTreeMap;

/// A message as the naive reader sees it.
#[derive(Debug)]
pub(crate) struct Message {
    /// The first 236 octets.
    pub fixed: [u8; 236],
    /// Option 52 was there and made no sense.
    pub overload_ignored: bool,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    /// The whole value of an option (RFC 3396 §7).
    pub(crate) fn get(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// The codes of all options.
    pub(crate) fn codes(&self) -> impl Iterator<Item = u8> {
        self.options.keys().copied()
    }
}

/// Reads a message of that `op`; `None` if it is malformed.
pub(crate) fn read(message: &[u8], op: u8) -> Option<Message> {
    let fixed: [u8; 236] = message.get(..236)?.try_into().ok()?;
    if message.get(236..240)? != [99, 130, 83, 99] || fixed[0] != op || fixed[2] > 16 {
        return None;
    }
    let mut pieces = pieces(&message[240..])?;
    let overloads: Vec<_> =
        pieces.extract_if(.., |(code, _)| *code == 52).map(|(_, value)| value).collect();
    let overload = match overloads.as_slice() {
        [one] if *one == [1] || *one == [2] || *one == [3] => one[0],
        _ => 0,
    };
    for (bit, field) in [(1, &fixed[108..236]), (2, &fixed[44..108])] {
        if overload & bit != 0 {
            pieces.extend(self::pieces(field)?.into_iter().filter(|(code, _)| *code != 52));
        }
    }
    if pieces.iter().filter(|(code, _)| *code == 53).count() != 1 {
        return None;
    }
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for (code, value) in pieces {
        options.entry(code).or_default().extend(value);
    }
    let well_formed = options.iter().all(|(code, value)| match code {
        50 | 54 => value.len() == 4,
        53 => matches!(value.as_slice(), [1..=13]),
        61 => !value.is_empty(),
        _ => true,
    });
    let overload_ignored = overload == 0 && !overloads.is_empty();
    well_formed.then_some(Message { fixed, overload_ignored, options })
}

/// The options of one field in order; `None` if one runs past its end.
fn pieces(field: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < field.len() {
        match field[at] {
            0 => at += 1,
            255 => break,
            code => {
                let length = usize::from(*field.get(at + 1)?);
                pieces.push((code, field.get(at + 2..at + 2 + length)?.to_vec()));
                at += 2 + length;
            }
        }
    }
    Some(pieces)
}
