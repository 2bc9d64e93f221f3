package main

// serviceWorkloads run in this order: later ones use results of earlier ones, such as
// the sustained rate of sends.
var serviceWorkloads = []workload{
	{"send", "one message a call, durable, against an empty handler (wrk)", sends},
	{"open-loop", "sends at a fixed rate, independent of the responses (vegeta)", openLoops},
	{"batch", "many messages a call, against Pebble alone with the same data", batches},
	{"broadcast", "one message to many", broadcasts},
	{"take", "ten at a time, until the queues are empty", takes},
	{"tombstones", "ten at a time from a queue with many tombstones", tombstones},
	{"lease", "ten at a time under a lease, acknowledged, against single sends", leases},
	{"wake-up", "from a send to the end of a waiting long poll's response", wakeUps},
	{"mixed", "four sends to one take of ten", mixed},
	{"drain", "to a Django that responds at once, and one that takes 20 ms", drains},
	{"idle", "memory and descriptors with idle connections, and their effect on others", idles},
	{"stored", "start after kill -9, disk and cost, by how much is stored", stored},
}

// revisionWorkloads compare two builds of the service.
var revisionWorkloads = []workload{
	{"send", "one message a call, durable, by two builds (wrk)", compareSends},
	{"batch", "a thousand messages a call, by two builds", compareBatches},
	{"take", "ten at a time, by two builds", compareTakes},
	{"beside", "ten at a time, during a listing and a replay, by two builds", compareBeside},
	{"stored", "sends and takes with much stored, by two builds", compareStored},
}
