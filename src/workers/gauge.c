/* gauge.c - see gauge.h. */
#include "workers/gauge.h"

#include <stdio.h>

#include "base/clock.h"

enum gauge_state gauge_state(const struct gauge *gauge, uint64_t now_us)
{
    if (!gauge->told || now_us - gauge->told_us >= gauge->config->expires_us)
        return GAUGE_UNKNOWN;
    return gauge->value >= gauge->config->full ? GAUGE_FULL : GAUGE_OK;
}

const char *gauge_state_name(enum gauge_state state)
{
    static const char *const names[] = {
        [GAUGE_OK] = "ok", [GAUGE_FULL] = "full", [GAUGE_UNKNOWN] = "unknown"};

    return names[state];
}

void gauge_reason(const struct gauge *gauge, uint64_t now_us, char text[GAUGE_TEXT_MAX])
{
    const struct config_gauge *c = gauge->config;

    if (!gauge->told)
        snprintf(text, GAUGE_TEXT_MAX, "nothing was told yet; POST /api/gauges/%s", c->name);
    else if (gauge_state(gauge, now_us) == GAUGE_UNKNOWN)
        snprintf(text, GAUGE_TEXT_MAX, "nothing was told for %.0f s, and a value is believed for %g s",
                 (double)(now_us - gauge->told_us) / US_PER_S, (double)c->expires_us / US_PER_S);
    else
        snprintf(text, GAUGE_TEXT_MAX, "%g of %g%s%.100s", gauge->value, c->full, c->unit ? " " : "",
                 c->unit ? c->unit : "");
}
