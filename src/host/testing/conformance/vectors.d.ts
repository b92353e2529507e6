// Made by the build from pkg-tests/vectors, which the core's own tests read too.

import type { JudgeVectorText, LogStory, Story } from "./vector-types.js";

export declare const judge: readonly JudgeVectorText[];
export declare const documents: readonly Story[];
export declare const reads: readonly LogStory[];
