// Prices a plan from the tables that travel in the page: the same sums that the planner's search takes.
// A plan is {compute: {name: mask}, stored: {name, mask}}; bit i of a mask stands for mesh axis i.
"use strict";

const Pricing = (() => {
  function entry(table, plan, axes) {
    let index = 0;
    for (let axis = 0; axis < axes; axis++) {
      let set = 0;
      table.names.forEach((name, i) => {
        const mask = name === "+" ? plan.stored.mask : plan.compute[name] || 0;
        set |= ((mask >> axis) & 1) << i;
      });
      const found = table.classes[axis][set];
      if (found < 0) return -1;
      index = index * table.counts[axis] + found;
    }
    return index;
  }

  // A value of a row as `prices._packed` writes it.
  const FIRST_CODE = 0x5d;
  function at(table, row, index) {
    const found = table.values[row];
    if (!found) return 0;
    return Array.isArray(found) ? found[index] : found.of[found.at.charCodeAt(index) - FIRST_CODE];
  }

  function added(data, plan, tables, positions, rows) {
    const total = new Array(rows).fill(0);
    for (const position of positions) {
      const table = tables[position];
      const index = entry(table, plan, data.axes.length);
      if (index < 0) return null;
      for (let row = 0; row < rows; row++) total[row] += at(table, row, index);
    }
    return total;
  }

  // Seconds of a step and its parts, and of each kind of collective how many and how long; null for a plan that the
  // space does not have.
  function time(data, plan) {
    const { kinds, overlap, tables } = data.prices;
    const total = added(data, plan, tables, data.prices.of[plan.stored.name || ""] || [], 3 + 2 * kinds.length);
    if (total === null) return null;
    const [compute, activations, state] = total;
    const hidden = Math.min(overlap.state * state + overlap.activations * activations, compute);
    return {
      compute,
      communication: activations + state,
      exposed: activations + state - hidden,
      step: compute + activations + state - hidden,
      collectives: kinds.map((kind, i) => ({ kind, seconds: total[3 + 2 * i], count: Math.round(total[4 + 2 * i]) })),
    };
  }

  // The peak of memory, what it is made of by kind, and how much is held after each event.
  function memory(data, plan) {
    const { entries, entriesOf, places, events, memoryKinds, onChip, copies } = data.prices;
    const bytes = [];
    const positions = entriesOf[plan.stored.name || ""];
    for (let i = 0; i < places.length; i++) {
      const table = entries[positions[i]];
      const index = entry(table, plan, data.axes.length);
      if (index < 0) return null;
      places[i].forEach((place, row) => (bytes[place] = at(table, row, index)));
    }
    // What stays in the memory of the device, what passes, what loops stack, what is in them, and gradients that
    // wait for the update: `ChipMemory.off_chip`.
    const held = [0, 1, 2, 3, 4, 5].map(() => memoryKinds.map(() => 0));
    const total = [0, 0, 0, 0, 0, 0];
    let peak = 0, parts = memoryKinds.map(() => 0);
    const course = [];
    for (const [sign, place, kind, which] of events) {
      const change = sign * bytes[place];
      held[which][kind] += change;
      total[which] += change;
      const [, waiting, stacked, looped, paired, reduced] = total;
      const passes = waiting + looped > onChip;
      const room = Math.max(onChip - waiting - looped, 0);
      const here = Math.min(Math.max(3 * paired - room, 0), paired);
      const left = Math.max(room - 3 * paired, 0);
      const beside = here - Math.min(here, Math.floor(Math.min(paired, onChip + copies) / 2))
        + Math.min(Math.max(2 * reduced - left, 0), reduced);
      const beyond = Math.max(stacked - Math.max(left - 2 * reduced, 0), 0);
      const off = passes ? waiting + stacked + Math.max(looped - onChip, 0) : beyond;
      const running = total[0] + off + beside;
      if (running > peak) {
        peak = running;
        let rest = off - (passes ? waiting : 0);
        parts = memoryKinds.map((_, i) => held[0][i] + (passes ? held[1][i] : 0));
        let gradients = beside;
        for (const sort of [held[4], held[5]]) {
          sort.forEach((bytes, i) => {
            const taken = Math.min(gradients, bytes);
            gradients -= taken;
            parts[i] += taken;
          });
        }
        for (const sort of [held[2], held[3]]) {
          sort.forEach((bytes, i) => {
            const taken = Math.min(rest, bytes);
            rest -= taken;
            parts[i] += taken;
          });
        }
      }
      course.push(running);
    }
    return { peak, parts, course };
  }

  // The mesh axes that each name of an array has: `ShardingRules.layout`.
  function layout(data, plan, sizes, role) {
    let used = 0;
    const found = {};
    const names = inOrder(data, sizes);
    for (const name of names) {
      found[name] = fitting(data, sizes[name], (plan.compute[name] || 0) & ~used);
      used |= found[name];
    }
    const { name, mask } = plan.stored;
    if (role === "storage" && name && name in sizes) {
      const both = fitting(data, sizes[name], found[name] | (mask & ~used));
      if ((both & found[name]) === found[name]) found[name] |= both;
    }
    return found;
  }

  // The names of an array as they come there: `passes.sharding.rules.in_order`.
  function inOrder(data, sizes) {
    let names = data.order.filter((name) => name in sizes);
    for (const [where, several] of data.orderWhere) {
      if (![where, ...several].every((name) => name in sizes)) continue;
      const moved = several.filter((name) => names.includes(name));
      names = [...moved, ...names.filter((name) => !moved.includes(name))];
    }
    return names;
  }

  function fitting(data, size, mask) {
    let kept = 0, devices = 1;
    data.axes.forEach((axis, i) => {
      if ((mask >> i) & 1 && size > 0 && size % (devices * axis.size) === 0) {
        kept |= 1 << i;
        devices *= axis.size;
      }
    });
    return kept;
  }

  // The plan with a name over one more mesh axis, or one fewer, in a role. Only one name is stored over axes of its own.
  function moved(data, plan, name, axis, role) {
    const compute = { ...plan.compute };
    let stored = { ...plan.stored };
    const bit = 1 << axis;
    if (role === "compute") {
      compute[name] = (compute[name] || 0) ^ bit;
      if (stored.name === name) stored.mask &= ~compute[name];
    } else {
      if (stored.name !== name) stored = { name, mask: 0 };
      stored.mask ^= bit;
      compute[name] = (compute[name] || 0) & ~stored.mask;
    }
    if (!stored.mask) stored = { name: null, mask: 0 };
    return { compute, stored };
  }

  // Whether the space has a plan: the masks that each name may have.
  function legal(data, plan) {
    return data.names.every((row) => {
      const mask = plan.compute[row.name] || 0;
      return row.options.includes(mask) && (plan.stored.name !== row.name || row.storage.includes(plan.stored.mask));
    });
  }

  return { time, memory, layout, moved, legal };
})();

if (typeof module !== "undefined") module.exports = Pricing;
