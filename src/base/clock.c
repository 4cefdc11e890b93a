/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks, and RFC 3339 both ways. Calendar arithmetic is done by timegm(3) and gmtime_r(3). */
#include "clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

int64_t clock_mono_ms(void)
{
    return read_us(CLOCK_MONOTONIC_COARSE) / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_boot_ms(void)
{
    return read_us(CLOCK_BOOTTIME) / 1000;
}

const char *clock_text(int64_t wall_ms, char *out)
{
    int64_t sec = wall_ms >= 0 ? wall_ms / 1000 : (wall_ms - 999) / 1000;
    time_t t = (time_t)sec;
    struct tm tm;
    size_t n;

    if (!gmtime_r(&t, &tm) || !(n = strftime(out, CLOCK_TEXT_MAX - 6, "%Y-%m-%dT%H:%M:%S", &tm)))
        return "?";
    snprintf(out + n, CLOCK_TEXT_MAX - n, ".%03dZ", (int)(wall_ms - sec * 1000));
    return out;
}

/* `n` digits as a number, -1 when something else stands there; moves on. */
static int digits(struct span *s, size_t n)
{
    int v = 0;

    if (s->n < n)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return -1;
        v = v * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= n;
    return v;
}

static bool literal(struct span *s, char c, char or)
{
    if (s->n == 0 || (s->p[0] != c && s->p[0] != or))
        return false;
    s->p++;
    s->n--;
    return true;
}

static bool parse_fraction(struct span *s, int *ms)
{
    int scale = 100, digit;

    *ms = 0;
    if (!literal(s, '.', ','))
        return true;
    if ((digit = digits(s, 1)) < 0)
        return false;
    for (; digit >= 0; digit = digits(s, 1), scale /= 10)
        *ms += digit * scale;
    return true;
}

static bool parse_zone(struct span *s, int *minutes)
{
    int sign, h, m;

    *minutes = 0;
    if (literal(s, 'Z', 'z'))
        return s->n == 0;
    if (s->n == 0 || (s->p[0] != '+' && s->p[0] != '-'))
        return false;
    sign = s->p[0] == '-' ? -1 : 1;
    literal(s, '+', '-');
    if ((h = digits(s, 2)) < 0 || h > 23 || !literal(s, ':', ':') || (m = digits(s, 2)) < 0 ||
        m > 59)
        return false;
    *minutes = sign * (h * 60 + m);
    return s->n == 0;
}

bool clock_parse(struct span s, int64_t *wall_ms)
{
    struct tm tm = { 0 }, back;
    int ms, zone;
    time_t t;

    if ((tm.tm_year = digits(&s, 4) - 1900) < -1900 || !literal(&s, '-', '-') ||
        (tm.tm_mon = digits(&s, 2) - 1) < 0 || !literal(&s, '-', '-') ||
        (tm.tm_mday = digits(&s, 2)) < 1 || !literal(&s, 'T', 't') ||
        (tm.tm_hour = digits(&s, 2)) < 0 || !literal(&s, ':', ':') ||
        (tm.tm_min = digits(&s, 2)) < 0 || !literal(&s, ':', ':') ||
        (tm.tm_sec = digits(&s, 2)) < 0 || !parse_fraction(&s, &ms) || !parse_zone(&s, &zone))
        return false;
    if (tm.tm_mon > 11 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    back = tm;
    t = timegm(&back);
    if (back.tm_mday != tm.tm_mday && tm.tm_sec < 60) /* 30 February */
        return false;
    *wall_ms = ((int64_t)t - zone * 60) * 1000 + ms;
    return true;
}
