//! Dates: the civil calendar, and the forms that mail writes them in.
//!
//! * What: days and seconds to and from years, months and days; `date-time` of RFC 5322 and of IMAP.
//! * In: seconds since 1970-01-01 00:00 UTC with a zone in minutes, or text.
//! * Out: text, or seconds with a zone.
//! * Never: knows what time it is.
//! * Fails: with `None`, for text that names no day.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

/// Names of the months.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Names of the week days, from the one that 1970-01-01 was.
const WEEK_DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAY_S: i64 = 86_400;
/// The last second of the year 9999, the last that four digits can write.
const LAST: i64 = 253_402_300_799;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// Year; 1 is the first.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
}

fn is_leap(year: i32) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days of a month; 0 when there is no such month.
fn days_of(year: i32, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

impl Civil {
    /// The day, when there is one of that number in that month of a year from 1 to 9999.
    pub fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        ((1..=9999).contains(&year) && (1..=days_of(year, month)).contains(&day)).then_some(Self { year, month, day })
    }

    /// Days since 1970-01-01; negative before it.
    #[allow(clippy::arithmetic_side_effects, reason = "64 bits hold the days of any 32-bit year")]
    pub fn days_since_epoch(self) -> i32 {
        // Years begin with March here, so that the leap day comes last; eras are the 400 years after which all repeats.
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })
    }

    /// The day so many days after 1970-01-01.
    #[allow(clippy::arithmetic_side_effects, reason = "64 bits hold the days of any 32-bit year")]
    pub fn from_days_since_epoch(days: i32) -> Self {
        let days = i64::from(days) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * months + 2) / 5 + 1;
        let month = if months < 10 { months + 3 } else { months - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let narrow = |small: i64| u8::try_from(small).unwrap_or(1);
        Self { year: i32::try_from(year).unwrap_or(i32::MAX), month: narrow(month), day: narrow(day) }
    }
}

/// A moment as a clock on the wall in its zone shows it.
struct Shown {
    civil: Civil,
    week_day: &'static str,
    hour: i64,
    minute: i64,
    second: i64,
    zone: String,
}

/// Moments before 1970 and behind the year 9999 are cut to that range.
fn shown(unix_s: i64, offset_minutes: i16) -> Shown {
    let local = unix_s.saturating_add(i64::from(offset_minutes).saturating_mul(60)).clamp(0, LAST);
    let (day, second) = (local.div_euclid(DAY_S), local.rem_euclid(DAY_S));
    let week_day = usize::try_from(day.rem_euclid(7)).ok().and_then(|day| WEEK_DAYS.get(day).copied());
    let minutes = offset_minutes.unsigned_abs();
    Shown {
        civil: Civil::from_days_since_epoch(i32::try_from(day).unwrap_or(i32::MAX)),
        week_day: week_day.unwrap_or("Thu"),
        hour: second.div_euclid(3_600),
        minute: second.div_euclid(60).rem_euclid(60),
        second: second.rem_euclid(60),
        zone: format!("{}{:02}{:02}", if offset_minutes < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
    }
}

fn month_name(month: u8) -> &'static str {
    usize::from(month).checked_sub(1).and_then(|month| MONTHS.get(month).copied()).unwrap_or("Jan")
}

/// The month of this name, 1 to 12, in any case.
pub fn month_number(name: &[u8]) -> Option<u8> {
    let at = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month.as_bytes()))?;
    u8::try_from(at).ok()?.checked_add(1)
}

/// The `date-time` of RFC 5322 section 3.3, such as `Fri, 21 Nov 1997 09:55:06 -0600`, as a clock in that zone shows
/// it. Moments before 1970 or behind the year 9999 are cut to that range.
pub fn rfc5322(unix_s: i64, offset_minutes: i16) -> String {
    let Shown { civil, week_day, hour, minute, second, zone } = shown(unix_s, offset_minutes);
    let (day, month, year) = (civil.day, month_name(civil.month), civil.year);
    format!("{week_day}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} {zone}")
}

/// The `date-time` of RFC 5322 in UTC.
pub fn date_time(unix_s: i64) -> String {
    rfc5322(unix_s, 0)
}

/// The `date-time` of IMAP (RFC 9051 section 9) with its quotes, such as `"17-Jul-1996 02:44:25 -0700"`. Moments
/// before 1970 or behind the year 9999 are cut to that range.
pub fn imap(unix_s: i64, offset_minutes: i16) -> String {
    let Shown { civil, hour, minute, second, zone, .. } = shown(unix_s, offset_minutes);
    let (day, month, year) = (civil.day, month_name(civil.month), civil.year);
    format!("\"{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {zone}\"")
}

fn number(digits: &[u8]) -> Option<i32> {
    let fits = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| fits)?.parse().ok()
}

/// `+hhmm` or `-hhmm` in minutes; `None` when it is none, or a day or more away from UTC.
fn numeric_zone(zone: &[u8]) -> Option<i16> {
    let (sign, digits) = zone.split_first()?;
    let (hours, minutes) = digits.split_at_checked(2).filter(|(_, minutes)| minutes.len() == 2)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minutes = (hours < 24 && minutes < 60).then(|| hours.saturating_mul(60).saturating_add(minutes))?;
    let minutes = i16::try_from(minutes).ok()?;
    match sign {
        b'+' => Some(minutes),
        b'-' => minutes.checked_neg(),
        _ => None,
    }
}

/// `hh:mm` or `hh:mm:ss` in seconds.
fn time_of_day(text: &[u8]) -> Option<i64> {
    let mut pieces = text.split(|octet| *octet == b':').map(number);
    let (hour, minute) = (pieces.next()??, pieces.next()??);
    let second = pieces.next().unwrap_or(Some(0))?;
    // A leap second is the second after the last.
    let valid = pieces.next().is_none() && hour < 24 && minute < 60 && second <= 60;
    let minutes = i64::from(hour).saturating_mul(60).saturating_add(i64::from(minute));
    valid.then(|| minutes.saturating_mul(60).saturating_add(i64::from(second)))
}

fn moment(civil: Civil, second: i64, offset_minutes: i16) -> i64 {
    let day = i64::from(civil.days_since_epoch()).saturating_mul(DAY_S);
    day.saturating_add(second).saturating_sub(i64::from(offset_minutes).saturating_mul(60))
}

/// Reads the `date` of an IMAP search key, such as `1-Feb-1994`, with or without quotes.
pub fn parse_imap_date(text: &[u8]) -> Option<Civil> {
    let text = text.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(text);
    let mut pieces = text.split(|octet| *octet == b'-');
    let (day, month, year) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let valid = pieces.next().is_none() && (1..=2).contains(&day.len()) && year.len() == 4;
    let day = u8::try_from(number(day)?).ok()?;
    Civil::new(number(year)?, month_number(month)?, day).filter(|_| valid)
}

/// Reads the `date-time` of IMAP with its quotes; seconds since 1970 and the zone in minutes.
pub fn parse_imap(text: &[u8]) -> Option<(i64, i16)> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut pieces = inner.strip_prefix(b" ").unwrap_or(inner).split(|octet| *octet == b' ');
    let (date, time, zone) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let valid = pieces.next().is_none() && time.len() == 8;
    let offset_minutes = numeric_zone(zone)?;
    Some((moment(parse_imap_date(date)?, time_of_day(time)?, offset_minutes), offset_minutes)).filter(|_| valid)
}

/// What was recognised of a `Date` header.
#[derive(Default)]
struct Seen {
    day: Option<u8>,
    month: Option<u8>,
    year: Option<i32>,
    time: Option<i64>,
    zone: Option<i16>,
}

impl Seen {
    fn take(&mut self, word: &[u8]) {
        if word.contains(&b':') {
            //= rfc5256#section-2.2
            //# If the time is also invalid, the time SHOULD be treated as
            //# 00:00:00.
            self.time = self.time.or(Some(time_of_day(word).unwrap_or(0)));
        } else if let Some(month) = month_number(word.get(..3).unwrap_or_default()).filter(|_| self.month.is_none()) {
            self.month = Some(month);
        } else if self.time.is_some() && self.zone.is_none() && !word.first().is_some_and(u8::is_ascii_digit) {
            self.zone = Some(zone(word));
        } else if let Some(value) = number(word) {
            if self.day.is_none() && word.len() <= 2 {
                self.day = u8::try_from(value).ok();
            } else if self.year.is_none() {
                self.year = Some(full_year(value, word.len()));
            }
        }
    }
}

//= rfc5322#section-4.3
//# If a two digit year is encountered whose
//# value is between 00 and 49, the year is interpreted by adding 2000,
//# ending up with a value between 2000 and 2049.  If a two digit year is
//# encountered with a value between 50 and 99, or any three digit year
//# is encountered, the year is interpreted by adding 1900.
fn full_year(value: i32, digits: usize) -> i32 {
    match (digits, value) {
        (..=2, ..=49) => value.saturating_add(2000),
        (..=3, _) => value.saturating_add(1900),
        _ => value,
    }
}

/// The zone in minutes. RFC 5322 section 4.3 takes military and unknown zones for UTC.
fn zone(word: &[u8]) -> i16 {
    let hours: i16 = match word.to_ascii_uppercase().as_slice() {
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => return numeric_zone(word).unwrap_or(0),
    };
    hours.saturating_mul(60)
}

/// Text without comments, and without white space around colons, where the obsolete syntax allows it.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let (mut kept, mut depth) = (Vec::with_capacity(text.len()), 0_usize);
    for octet in text {
        let octet = match octet {
            b'(' => {
                depth = depth.saturating_add(1);
                b' '
            }
            b')' => {
                depth = depth.saturating_sub(1);
                b' '
            }
            _ if depth > 0 => continue,
            octet => *octet,
        };
        if octet == b':' {
            kept.truncate(kept.trim_ascii_end().len());
        }
        if !(octet.is_ascii_whitespace() && kept.ends_with(b":")) {
            kept.push(octet);
        }
    }
    kept
}

/// Longest `Date` value that is looked at, in octets; real ones have about 40.
const DATE_OCTETS_MAX: usize = 512;

/// Reads the value of a `Date` header (RFC 5322 sections 3.3 and 4.3): seconds since 1970 and the zone in minutes.
/// Forgives what senders write: missing week days, seconds and zones, two-digit years, `17-Jul-1996`, the order of
/// `asctime`. `None` when there is no valid day in it.
pub fn parse_rfc5322(value: &[u8]) -> Option<(i64, i16)> {
    let text = without_comments(value.get(..value.len().min(DATE_OCTETS_MAX))?);
    let mut seen = Seen::default();
    for word in text.split(|octet| octet.is_ascii_whitespace() || *octet == b',').filter(|word| !word.is_empty()) {
        let dashed = word.first().is_some_and(u8::is_ascii_digit) && word.contains(&b'-');
        if dashed && seen.month.is_none() {
            word.split(|octet| *octet == b'-').for_each(|piece| seen.take(piece));
        } else {
            seen.take(word);
        }
    }
    let civil = Civil::new(seen.year?, seen.month?, seen.day?)?;
    let offset_minutes = seen.zone.unwrap_or(0);
    Some((moment(civil, seen.time.unwrap_or(0), offset_minutes), offset_minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_back() {
        for (year, month, day, days) in
            [(1970, 1, 1, 0), (1969, 12, 31, -1), (2000, 2, 29, 11_016), (1, 1, 1, -719_162), (9999, 12, 31, 2_932_896)]
        {
            let civil = Civil::new(year, month, day).expect("a day");
            assert_eq!(civil.days_since_epoch(), days);
            assert_eq!(Civil::from_days_since_epoch(days), civil);
        }
        let mut last = Civil::from_days_since_epoch(-719_163);
        for days in -719_162..=2_932_896 {
            let civil = Civil::from_days_since_epoch(days);
            assert!(civil > last && Civil::new(civil.year, civil.month, civil.day) == Some(civil));
            assert_eq!(civil.days_since_epoch(), days);
            last = civil;
        }
        assert_eq!(Civil::new(1900, 2, 29), None);
        assert_eq!(Civil::new(2026, 13, 1), None);
        assert_eq!(Civil::new(10_000, 1, 1), None);
    }

    #[test]
    fn written() {
        for (unix_s, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_564_799, "Tue, 24 Nov 2026 23:59:59 +0000"),
            (4_102_444_800, "Fri, 1 Jan 2100 00:00:00 +0000"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (-1, "Thu, 1 Jan 1970 00:00:00 +0000"),
        ] {
            assert_eq!(date_time(unix_s), text);
        }
        assert_eq!(rfc5322(880_127_706, -360), "Fri, 21 Nov 1997 09:55:06 -0600");
        assert_eq!(imap(837_596_665, -420), "\"17-Jul-1996 02:44:25 -0700\"");
        assert_eq!(imap(0, 330), "\" 1-Jan-1970 05:30:00 +0530\"");
        assert_eq!(imap(i64::MAX, i16::MAX), "\"31-Dec-9999 23:59:59 +54607\"");
    }

    #[test]
    fn imap_dates() {
        for (text, expected) in [
            ("\"17-Jul-1996 02:44:25 -0700\"", Some((837_596_665, -420))),
            ("\" 1-jan-1970 00:00:00 +0000\"", Some((0, 0))),
            ("\"01-Jan-1970 00:00:00 +0000\"", Some((0, 0))),
            ("\"1-Jan-1970 00:00:00 +0000\"", Some((0, 0))),
            ("17-Jul-1996 02:44:25 -0700", None),
            ("\"31-Feb-1996 02:44:25 -0700\"", None),
            ("\"17-Jul-1996 24:44:25 -0700\"", None),
            ("\"17-Jul-1996 2:44:25 -0700\"", None),
            ("\"17-Jul-1996 02:44:25\"", None),
            ("\"17-Jul-1996 02:44:25 PST\"", None),
            ("\"17-Jul-96 02:44:25 +0000\"", None),
            ("\"\"", None),
        ] {
            assert_eq!(parse_imap(text.as_bytes()), expected, "{text}");
        }
        for (text, days) in
            [("1-Jan-1970", Some(0)), ("\"02-jan-1970\"", Some(1)), ("1-Jan", None), ("1-Foo-1970", None)]
        {
            assert_eq!(parse_imap_date(text.as_bytes()).map(Civil::days_since_epoch), days, "{text}");
        }
    }

    #[test]
    fn rfc5322_dates() {
        for (text, expected) in [
            ("Fri, 21 Nov 1997 09:55:06 -0600", Some((880_127_706, -360))),
            ("21 Nov 97 09:55:06 CST", Some((880_127_706, -360))),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", Some((880_127_706, -360))),
            ("Fri, 21 Nov 1997 15:55:06 GMT (a (nested) comment)", Some((880_127_706, 0))),
            ("Fri,21 Nov 1997 15:55:06 Z", Some((880_127_706, 0))),
            ("21 Nov 1997 15:55", Some((880_127_700, 0))),
            ("21 Nov 1997", Some((880_070_400, 0))),
            ("Fri Nov 21 15:55:06 1997", Some((880_127_706, 0))),
            ("Fri Nov 21 15:55:06 UTC 1997", Some((880_127_706, 0))),
            ("Friday, November 21, 1997 15:55:06 +0000", Some((880_127_706, 0))),
            ("21-Nov-1997 09:55:06 -0600", Some((880_127_706, -360))),
            ("1 Jan 100 00:00:00 +0000", Some((946_684_800, 0))),
            ("1 Jan 70 00:00:60 +0000", Some((60, 0))),
            ("1 Jan 1970 00:00:00 +9999", Some((0, 0))),
            ("1 Jan 1970 25:00:00 +0000", Some((0, 0))),
            ("1 Jan 1970 00:00:00 -0000", Some((0, 0))),
            ("1 Jan 1900 00:00:00 +0000", Some((-2_208_988_800, 0))),
            ("30 Feb 1997 00:00:00 +0000", None),
            ("Nov 1997", None),
            ("now", None),
            ("", None),
            ("((((", None),
            ("99999999999999999999 Jan 1970", None),
        ] {
            assert_eq!(parse_rfc5322(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(parse_rfc5322(&[0xff; 10_000]), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(unix_s in 86_400..LAST - 86_400, offset in -1_439_i16..=1_439) {
            proptest::prop_assert_eq!(parse_rfc5322(rfc5322(unix_s, offset).as_bytes()), Some((unix_s, offset)));
            proptest::prop_assert_eq!(parse_imap(imap(unix_s, offset).as_bytes()), Some((unix_s, offset)));
        }

        #[test]
        fn anything_is_read_without_panic(text: Vec<u8>) {
            let _ = (parse_rfc5322(&text), parse_imap(&text), parse_imap_date(&text));
        }
    }
}
