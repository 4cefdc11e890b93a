/* clock - the three clocks, and times as text. */
#pragma once

#include "span.h"

int64_t clock_wall_us(void);
int64_t clock_wall_ms(void); /* CLOCK_REALTIME: what stands in records; may jump */
int64_t clock_mono_ms(void); /* CLOCK_MONOTONIC at the kernel's last tick: deadlines */
int64_t clock_mono_us(void); /* CLOCK_MONOTONIC: durations */
int64_t clock_boot_ms(void); /* CLOCK_BOOTTIME: ages; goes on through suspend, never jumps */

#define CLOCK_TEXT_MAX 32
/* RFC 3339 with milliseconds in UTC, "2026-11-23T12:00:00.000Z", into out[CLOCK_TEXT_MAX]. */
const char *clock_text(int64_t wall_ms, char *out);
/* The same back; also without or with more fraction digits, and with +hh:mm. False when it is none.
 */
bool clock_parse(struct span s, int64_t *wall_ms);
