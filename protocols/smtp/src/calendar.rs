//! Date and time as a header says them.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: i64 = 86_400;
/// The last second of the year 9999, the last that RFC 5322 can write with four digits.
const LAST: i64 = 253_402_300_799;

/// The `date-time` of RFC 5322 section 3.3, in UTC. Moments before 1970 or behind the year 9999 are cut to that range.
pub fn date_time(unix_s: i64) -> String {
    let unix_s = unix_s.clamp(0, LAST);
    let (mut day, second) = (unix_s.div_euclid(DAY_S), unix_s.rem_euclid(DAY_S));
    let week_day = usize::try_from(day.rem_euclid(7)).ok().and_then(|day| DAYS.get(day)).unwrap_or(&"Thu");
    let mut year = 1970_i64;
    while day >= days_of(year) {
        day = day.saturating_sub(days_of(year));
        year = year.saturating_add(1);
    }
    let mut month = "Dec";
    for (name, length) in MONTHS.into_iter().zip(months_of(year)) {
        if day < length {
            month = name;
            break;
        }
        day = day.saturating_sub(length);
    }
    let day = day.saturating_add(1);
    let (hour, minute, second) =
        (second.div_euclid(3_600), second.div_euclid(60).rem_euclid(60), second.rem_euclid(60));
    format!("{week_day}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn days_of(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn months_of(year: i64) -> [i64; 12] {
    [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
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
    }
}
