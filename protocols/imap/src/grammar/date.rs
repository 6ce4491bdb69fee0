//! Dates as IMAP writes them.

use rockdove_mail::search::Day;

use super::words::{Words, Wrong};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const WRONG: Wrong = "a date is malformed";

/// `date = date-text / DQUOTE date-text DQUOTE`; `date-text = date-day "-" date-month "-" date-year`
pub(super) fn date(words: &mut Words<'_>) -> Result<Day, Wrong> {
    let quoted = words.eat(b'"');
    let day = date_text(words)?;
    if quoted {
        words.expect(b'"', WRONG)?;
    }
    Ok(Day { days_since_epoch: i32::try_from(day).map_err(|_| WRONG)? })
}

/// `date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE`: seconds since 1970, and zone
/// east of UTC in minutes.
pub(super) fn date_time(words: &mut Words<'_>) -> Result<(i64, i16), Wrong> {
    words.expect(b'"', WRONG)?;
    let days = date_text(words)?;
    words.space()?;
    let hour = digits(words, 2, 23)?;
    words.expect(b':', WRONG)?;
    let minute = digits(words, 2, 59)?;
    words.expect(b':', WRONG)?;
    // RFC 5322 knows leap seconds.
    let second = digits(words, 2, 60)?;
    words.space()?;
    // zone = ("+" / "-") 4DIGIT
    let east = match words.peek() {
        Some(b'+') => 1i16,
        Some(b'-') => -1,
        _ => return Err(WRONG),
    };
    words.eat(b'+');
    words.eat(b'-');
    let (zone_hours, zone_minutes) = (digits(words, 2, 23)?, digits(words, 2, 59)?);
    words.expect(b'"', WRONG)?;
    let zone = i16::try_from(zone_hours.saturating_mul(60).saturating_add(zone_minutes)).map_err(|_| WRONG)?;
    let zone = zone.saturating_mul(east);
    let local = days
        .saturating_mul(86_400)
        .saturating_add(hour.saturating_mul(3_600))
        .saturating_add(minute.saturating_mul(60))
        .saturating_add(second);
    Ok((local.saturating_sub(i64::from(zone).saturating_mul(60)), zone))
}

/// Days since 1970-01-01. The day may have one digit, two, or a space before one.
fn date_text(words: &mut Words<'_>) -> Result<i64, Wrong> {
    words.spaces();
    let day = words.number()?;
    words.expect(b'-', WRONG)?;
    let month = MONTHS.iter().position(|month| words.eat_text(month)).ok_or(WRONG)?;
    words.expect(b'-', WRONG)?;
    let year = digits(words, 4, 9999)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let last = match month {
        1 if leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if day == 0 || day > last {
        return Err(WRONG);
    }
    let month = i64::try_from(month).unwrap_or_default().saturating_add(1);
    Ok(days_from_civil(year, month, i64::from(day)))
}

fn digits(words: &mut Words<'_>, count: usize, most: i64) -> Result<i64, Wrong> {
    let before = words.rest();
    let text = before.get(..count).filter(|text| text.iter().all(u8::is_ascii_digit)).ok_or(WRONG)?;
    for digit in text {
        words.eat(*digit);
    }
    let number = text
        .iter()
        .fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit.saturating_sub(b'0'))));
    if number > most { Err(WRONG) } else { Ok(number) }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; years count from March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) =
        if month > 2 { (year, month.saturating_sub(3)) } else { (year.saturating_sub(1), month.saturating_add(9)) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = month.saturating_mul(153).saturating_add(2) / 5;
    let leap_days = (year_of_era / 4).saturating_sub(year_of_era / 100);
    era.saturating_mul(146_097)
        .saturating_add(year_of_era.saturating_mul(365))
        .saturating_add(leap_days)
        .saturating_add(day_of_year)
        .saturating_add(day)
        .saturating_sub(719_469)
}

/// Year, month and day of a day since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = day_of_era
        .saturating_sub(day_of_era / 1_460)
        .saturating_add(day_of_era / 36_524)
        .saturating_sub(day_of_era / 146_096)
        / 365;
    let year_days = year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(year_days);
    let month = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = day_of_year.saturating_sub(month.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let year = year_of_era.saturating_add(era.saturating_mul(400));
    if month < 10 {
        (year, month.saturating_add(3), day)
    } else {
        (year.saturating_add(1), month.saturating_sub(9), day)
    }
}

/// Writes a date-time, with its quotes. Years outside 0000 to 9999 cannot be written; the nearest that can be is.
pub(super) fn write_date_time(out: &mut Vec<u8>, (unix_s, zone): (i64, i16)) {
    // Zones of more than a day do not exist; what cannot be written is shown in UTC.
    let zone = if zone.unsigned_abs() < 24 * 60 { zone } else { 0 };
    let local = unix_s.saturating_add(i64::from(zone).saturating_mul(60)).clamp(-62_167_219_200, 253_402_300_799);
    let (year, month, day) = civil_from_days(local.div_euclid(86_400));
    let second = local.rem_euclid(86_400);
    let month = usize::try_from(month.saturating_sub(1)).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"Jan");
    let sign = if zone < 0 { '-' } else { '+' };
    let (hours, minutes) = (zone.unsigned_abs() / 60, zone.unsigned_abs() % 60);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let text = format!("\"{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}\"");
    out.extend_from_slice(text.as_bytes());
}
