#!/usr/bin/env python3
"""Makes the Grafana dashboards. Change what they show here, run it, commit both.

usage: dashboards.py [DIR]    writes DIR/*.json (default: this folder)

`$model` and `$instance` choose what is summed; an instance is of the service that the dashboard is about.
"""
import json
import pathlib
import sys

from grafana import dashboard, gauge, graph, mean, number, quantiles, rate, share

MODEL = 'model=~"$model"'
CHOSEN = 'model=~"$model", instance=~"$instance"'
RANKS = 'model=~"$model", instance=~"$instance", rank=~"$rank"'
WORKER, PLACE = "{{model}} worker {{rank}}", "{{model}} {{instance}}"
TOKENS, UNITS = "suffix:tokens/s", "suffix:units/s"
TAIL = (0.95, 0.99)


def latency():
    step = "step_duration_seconds"
    return [
        graph("Time to first token", "s", "From acceptance to the first token: routing, queue, prompt.",
              *quantiles("time_to_first_token_seconds", CHOSEN)),
        graph("Inter-token latency", "s", "Gap between two tokens of one stream.",
              *quantiles("inter_token_latency_seconds", CHOSEN)),
        graph("End to end", "s", "From acceptance to the end, of requests that finished.",
              *quantiles("e2e_request_latency_seconds", CHOSEN)),
        graph("Time in the queue", "s", "From a prompt's first routes to its first row in a step.",
              *quantiles("request_queue_time_seconds", CHOSEN)),
        graph("Time to route a prompt", "s", "From asking the router to having every route, a prompt.",
              *quantiles("route_seconds", CHOSEN)),
        graph("Step duration", "s", "A step at its slowest worker. The round trip is there and back, and the "
              "wait behind a step planned before.",
              *quantiles(step, CHOSEN), mean("step_round_trip_seconds", CHOSEN, legend="mean round trip")),
    ]


def traffic():
    return [
        graph("Tokens", TOKENS, "Prompt tokens of requests that started, tokens streamed to clients.",
              rate("prompt_tokens_total", CHOSEN, legend="prompt"),
              rate("generation_tokens_total", CHOSEN, legend="generated")),
        graph("Drafts", TOKENS, "Tokens that were guessed and checked beside others in one step, of requests that ended; and those of them "
              "that were right.",
              rate("draft_tokens_total", CHOSEN, legend="guessed"),
              rate("accepted_draft_tokens_total", CHOSEN, legend="right")),
        graph("Prefix cache", "percentunit", "Tokens of sequences that entered the batch whose KV was there already, of all; and KV "
              "blocks that the cache knows, of all.",
              (f'{rate("prefix_cache_hits_total", CHOSEN)[0]} / {rate("prefix_cache_queries_total", CHOSEN)[0]}', "found"),
              gauge("prefix_cache_usage_ratio", CHOSEN, "cached " + PLACE), maximum=1),
        graph("Requests by how they ended", "reqps", "Length and stops are finished. Refused: the queue was "
              "full; invalid: the client's mistake; unavailable: no worker, or draining.",
              rate("requests_total", CHOSEN, by="finish_reason"), stack=True),
        graph("Requests running and waiting", "short", "In the batch; and routed, queued or preempted.",
              gauge("num_requests_running", CHOSEN, "running", by=""),
              gauge("num_requests_waiting", CHOSEN, "waiting", by=""), stack=True),
        graph("Tokens in a step", "short", "How full the batches are.",
              mean("step_tokens", CHOSEN), *quantiles("step_tokens", CHOSEN, TAIL)),
        graph("KV cache", "percentunit", "KV blocks in use, of all.",
              gauge("kv_cache_usage_ratio", CHOSEN, PLACE), maximum=1),
        graph("Preemptions and recoveries", "cps", "Sequences that lost their KV to others; epochs that "
              "became void. Both mean that tokens are computed again.",
              rate("preemptions_total", CHOSEN, legend="preemptions"),
              rate("recoveries_total", CHOSEN, legend="recoveries")),
    ]


def overview():
    failed = CHOSEN + ', finish_reason=~"error|unavailable"'
    failures = rate("requests_total", failed)[0] + " / " + rate("requests_total", CHOSEN)[0]
    memory = f"process_resident_memory_bytes and on (job, instance) pregate_num_requests_running{{{CHOSEN}}}"
    cpu = (f"rate(process_cpu_seconds_total[$__rate_interval]) "
           f"and on (job, instance) pregate_num_requests_running{{{CHOSEN}}}")
    return dashboard(
        "pregate-overview", "pregate: overview", "What clients get of a model, what its schedulers do.",
        [("model", "Model", "label_values(pregate_num_requests_running, model)"),
         ("instance", "Scheduler", f"label_values(pregate_num_requests_running{{{MODEL}}}, instance)")],
        [("Now", [
            number("Workers attached", "short", "Workers with a stream to their scheduler.",
                   gauge("worker_up", CHOSEN, "up", by="")),
            number("Workers configured", "short", "Workers that schedulers were told of, attached or not.",
                   (f"count(pregate_worker_up{{{CHOSEN}}})", "configured")),
            number("Requests running", "short", "Requests in the batch.",
                   gauge("num_requests_running", CHOSEN, "running", by="")),
            number("Tokens generated", TOKENS, "Tokens streamed to clients, a second.",
                   rate("generation_tokens_total", CHOSEN, legend="generated")),
            number("Failures", "percentunit", "Requests that ended with error or unavailable, of all.",
                   (failures, "failed")),
            number("KV cache in use", "percentunit", "KV blocks in use, of all, at the fullest scheduler.",
                   (f"max(pregate_kv_cache_usage_ratio{{{CHOSEN}}})", "used"), maximum=1),
        ]), ("Latency", latency()), ("Traffic", traffic()), ("Services", [
            graph("Workers up", "short", "1 while a worker is attached to its scheduler.",
                  gauge("worker_up", CHOSEN, WORKER), maximum=1),
            graph("Router up", "short", "1 while the router is connected. Nothing for a dense model.",
                  gauge("router_up", CHOSEN, PLACE), maximum=1),
            graph("Memory of the schedulers", "bytes", "Resident memory of the processes.",
                  (memory, "{{instance}}")),
            graph("CPU of the schedulers", "short", "Cores that the processes use.", (cpu, "{{instance}}")),
            graph("Certificates end in", "s", "Time left of the certificates in use, and of the authority's; nothing in plaintext.",
                  (f"min by (job, instance, certificate) (pregate_tls_certificate_expiry_timestamp_seconds{{{MODEL}}}) - time()",
                   "{{job}} {{instance}} {{certificate}}")),
        ])])


def residency():
    found = ("hits", "late_prefetches", "misses")
    units = {name: rate(f"expert_cache_{name}_total", RANKS)[0] for name in found}
    needed = f"({' + '.join(units.values())})"
    stall, late = (f"{rate(name, RANKS)[0]} / {rate('worker_step_seconds_sum', RANKS)[0]}"
                   for name in ("expert_stall_seconds_total", "expert_late_stall_seconds_total"))
    return [
        graph("Units when they were needed", "percentunit", "Of the units that steps needed: there, on their "
              "way, absent.",
              (f"{units['hits']} / {needed}", "hits"),
              (f"{units['late_prefetches']} / {needed}", "late prefetches"),
              (f"{units['misses']} / {needed}", "misses"), maximum=1),
        graph("Time lost to absent units", "percentunit", "Time that steps waited for units, of their time.",
              share("expert_stall_seconds_total", "worker_step_seconds_sum", RANKS, "model, rank", WORKER),
              maximum=1),
        graph("Time lost by cause", "percentunit", "Time that steps waited for units, of their time: those on "
              "their way, and those that nobody had asked for.",
              (f"{late}", "late"), (f"{stall} - {late}", "absent"), maximum=1, stack=True),
        graph("Reuse beside the optimum", "percentunit", "Experts that steps named and that took no load, of "
              "the last 2,048; and what a cache that had known these steps before would have reused.",
              gauge("expert_reuse_ratio", MODEL, "{{model}} reuse"),
              gauge("expert_optimal_reuse_ratio", MODEL, "{{model}} optimum"),
              maximum=1),
        graph("Bytes loaded", "Bps", "Units copied into slots: demanded by a step, or ahead of demand.",
              rate("expert_loaded_bytes_total", RANKS, legend="{{reason}}", by="reason"), stack=True),
        graph("Routed lookahead", "short", "Tokens of running requests whose expert is known and that no step has "
              "taken yet; over all schedulers.", gauge("routed_ahead_tokens", MODEL, "{{model}}", by="model")),
        graph("Loads and evictions", UNITS, "Units (one layer of one expert) copied into slots; those that "
              "gave way.",
              rate("expert_cache_loads_total", RANKS, legend="loads"),
              rate("expert_cache_evictions_total", RANKS, legend="evictions")),
        graph("Slots taken", "percentunit", "Units on the device, of those that fit there at once.",
              (f"pregate_expert_resident_units{{{RANKS}}} / pregate_expert_cache_slots{{{RANKS}}}", WORKER),
              maximum=1),
        graph("Memory of resident units", "bytes", "Device memory that resident units take.",
              gauge("expert_resident_bytes", RANKS, WORKER)),
        graph("Memory by part", "bytes", "As planned when the worker started, over the chosen workers.",
              gauge("worker_memory_bytes", RANKS, "{{part}}", by="part"), stack=True),
    ]


def routes():
    tokens = rate("expert_tokens_total", MODEL, by="model, expert")[0]
    every = rate("expert_tokens_total", MODEL, by="model")[0]
    return [
        graph("Tokens by expert", TOKENS, "Prompt and generated tokens by the expert that their route names; "
              "over all schedulers.",
              rate("expert_tokens_total", MODEL, "expert", "expert {{expert}}"), stack=True),
        graph("Busiest expert", "percentunit", "Its share of the tokens. Even is 1 / experts.",
              (f"max by (model) ({tokens}) / {every}", "{{model}}"), maximum=1),
        graph("Experts in a step", "short", "Experts that a step ran, over all workers and schedulers.",
              mean("step_unique_experts", MODEL), *quantiles("step_unique_experts", MODEL, TAIL)),
    ]


def steps():
    return [
        graph("Step on each worker", "s", "Mean time from plan taken to result made.",
              mean("worker_step_seconds", RANKS, "model, rank", WORKER)),
        graph("Step on the workers", "s", "The chosen workers together.",
              *quantiles("worker_step_seconds", RANKS)),
        graph("Router replica's part", "s", "What a worker's own router takes of a step to route samples.",
              *quantiles("worker_router_seconds", RANKS)),
        graph("Tokens through the backbone", TOKENS, "Tokens in steps, by worker.",
              rate("worker_tokens_total", RANKS, "model, rank", WORKER)),
        graph("Failed steps and rows", "cps", "Plans refused or aborted; sequences failed by a bad row.",
              rate("worker_failed_steps_total", RANKS, legend="steps"),
              rate("worker_row_errors_total", RANKS, legend="rows")),
        graph("Scheduler streams", "short", "Schedulers that are attached to each worker.",
              gauge("worker_links", RANKS, WORKER)),
    ]


def exchange():
    empty = "Empty where a worker is alone, or where a GPU's stream exchanges (NCCL)."
    return [
        graph("Exchange in a step", "s", "A step's exchange over all layers by the host's clock, waiting for "
              f"others included. {empty}",
              mean("exchange_seconds", RANKS), *quantiles("exchange_seconds", RANKS, TAIL)),
        graph("Exchange, of the steps' time", "percentunit", f"The same, as a share. {empty}",
              share("exchange_seconds_sum", "worker_step_seconds_sum", RANKS, "model, rank", WORKER),
              maximum=1),
        graph("Exchanged bytes", "Bps", "Payload of expert rows and routes to and from other workers.",
              rate("exchange_bytes_total", RANKS, "model, rank, direction", WORKER + " {{direction}}")),
    ]


def experts():
    worker = "pregate_worker_tokens_total"
    return dashboard(
        "pregate-experts", "pregate: experts", "Where expert units are, what absence costs, what travels.",
        [("model", "Model", f"label_values({worker}, model)"),
         ("instance", "Worker", f"label_values({worker}{{{MODEL}}}, instance)"),
         ("rank", "Rank", f"label_values({worker}{{{CHOSEN}}}, rank)")],
        [("Residency", residency()), ("Routes", routes()), ("Steps", steps()),
         ("Exchange between workers", exchange())])


def router():
    return dashboard(
        "pregate-router", "pregate: router", "The service that names every token's expert.",
        [("model", "Model", "label_values(pregate_router_links, model)"),
         ("instance", "Router", f"label_values(pregate_router_links{{{MODEL}}}, instance)")],
        [("Routing", [
            graph("Time of a request", "s", "Route request taken to answer made.",
                  *quantiles("router_route_seconds", CHOSEN)),
            graph("One pass of the network", "s", "A batch of tokens through the router's network.",
                  *quantiles("router_step_seconds", CHOSEN)),
            graph("Tokens in a pass", "short", "How full its batches are.",
                  mean("router_step_tokens", CHOSEN), *quantiles("router_step_tokens", CHOSEN, TAIL)),
            graph("Tokens routed", TOKENS, "Over the chosen routers.",
                  rate("router_tokens_total", CHOSEN, legend="routed")),
            graph("Requests open", "short", "Taken and not answered.",
                  gauge("router_requests", CHOSEN, "open", by="")),
            graph("Errors and gaps", "cps", "Answers with an error; requests that built on tokens which the "
                  "router no longer has: they are sent again from the start.",
                  rate("router_errors_total", CHOSEN, legend="errors"),
                  rate("router_gaps_total", CHOSEN, legend="gaps")),
        ]), ("Sessions", [
            graph("Sessions", "short", "Sessions with keys and values; streams that are open.",
                  gauge("router_sessions", CHOSEN, "sessions", by=""),
                  gauge("router_links", CHOSEN, "streams", by="")),
            graph("Tokens held", "short", "Tokens with keys and values.",
                  gauge("router_session_tokens", CHOSEN, "tokens", by="")),
            graph("KV cache", "percentunit", "KV blocks in use, evictable ones too.",
                  gauge("router_kv_usage_ratio", CHOSEN, PLACE), maximum=1),
            graph("Evictions and expirations", "cps", "Sessions that made room; sessions idle for too long.",
                  rate("router_session_evictions_total", CHOSEN, legend="evictions"),
                  rate("router_session_expirations_total", CHOSEN, legend="expirations")),
        ])])


def gateway():
    answers = "gateway_requests_total"
    failed = rate(answers, CHOSEN + ', status=~"5.."')[0] + " / " + rate(answers, CHOSEN)[0]
    return dashboard(
        "pregate-gateway", "pregate: gateway", "What applications get over HTTP.",
        [("model", "Model", "label_values(pregate_gateway_connections, model)"),
         ("instance", "Gateway", f"label_values(pregate_gateway_connections{{{MODEL}}}, instance)")],
        [("Now", [
            number("Schedulers ready", "short", "As the gateways see them, each counted once a gateway.",
                   gauge("gateway_scheduler_up", CHOSEN, "ready", by="")),
            number("Streams open", "short", "Streamed answers that have begun.",
                   gauge("gateway_open_streams", CHOSEN, "open", by="")),
            number("Answers", "reqps", "Of every route and status.", rate(answers, CHOSEN, legend="answers")),
            number("Failures", "percentunit", "Answers with a status from 500 on, of all.", (failed, "failed")),
        ]), ("Answers", [
            graph("Answers by status", "reqps", "HTTP statuses; 499: the client went. Of a stream that broke, what the break would have had.",
                  rate(answers, CHOSEN, by="status"), stack=True),
            graph("Answers by route", "reqps", "Paths of the API; other: there is nothing at that path, or it was no HTTP.",
                  rate(answers, CHOSEN, by="route"), stack=True),
            graph("Refused", "reqps", "401: no token, or one that is not known. 429: a token has used what it may, or a scheduler's queue is full. "
                  "503: no scheduler is ready, or it drains.",
                  rate(answers, CHOSEN + ', status="401"', legend="401 token"),
                  rate(answers, CHOSEN + ', status="429"', legend="429 quota or queue"),
                  rate(answers, CHOSEN + ', status="503"', legend="503 not ready")),
            graph("Time to first token", "s", "From a request's last byte to its first token at the gateway.",
                  *quantiles("gateway_time_to_first_token_seconds", CHOSEN)),
            graph("Requests at each scheduler", "short", "That the gateways have sent there and that are not answered.",
                  gauge("gateway_scheduler_requests", CHOSEN, "{{instance}} {{scheduler}}")),
            graph("Schedulers ready", "short", "1 while the gateway finds the scheduler ready.",
                  gauge("gateway_scheduler_up", CHOSEN, "{{instance}} {{scheduler}}"), maximum=1),
        ]), ("Connections", [
            graph("Streams open", "short", "Streamed answers that have begun.",
                  gauge("gateway_open_streams", CHOSEN, "{{instance}}")),
            graph("Connections", "short", "HTTP connections that are open; 8,192 at most.",
                  gauge("gateway_connections", CHOSEN, "{{instance}}")),
            graph("Bytes", "Bps", "Bodies of requests; answers with their heads.",
                  rate("gateway_received_bytes_total", CHOSEN, legend="received"),
                  rate("gateway_sent_bytes_total", CHOSEN, legend="sent")),
        ])])


def files():
    """{file name: text} of every dashboard."""
    made = {"overview.json": overview(), "experts.json": experts(), "router.json": router(),
            "gateway.json": gateway()}
    return {name: json.dumps(content, indent=1) + "\n" for name, content in made.items()}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    for name, text in files().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
