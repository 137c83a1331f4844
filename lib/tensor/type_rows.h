/* The number types, a row each, for every place that defines MK_TYPE:
 *
 *   name     also the dtype in safetensors files, of types that are single numbers
 *   weights  that share a block, and the bytes of the block
 *   gguf     the type's number in GGUF files (ggml.h, enum ggml_type); -1: they do not have it
 *   file     general.file_type of a GGUF file of this type (llama.h, enum llama_ftype); -1: none
 *            is written
 *   instead  of about as many bits, where rows are no multiple of the block
 *   codec    MK_NUMBER(fn, special)  mk_decode_fn and mk_encode_fn of n numbers; all bits of
 *                                    special are set in NaN and infinity
 *            MK_BLOCK(fn)            mk_decode_fn and mk_encode_fn of one block
 *            MK_STORED(fn)           mk_decode_fn of one block; only read
 *
 * The order is that of enum mk_type.  What kernels know of a type is a row of kernels/pack.c. */

/*      name     weights bytes gguf file instead codec */
MK_TYPE(F32,       1,   4,   0,   0, F32,    MK_NUMBER(f32, 0x7F800000u))
MK_TYPE(F16,       1,   2,   1,   1, F16,    MK_NUMBER(f16, 0x7C00u))
MK_TYPE(BF16,      1,   2,  30,  32, BF16,   MK_NUMBER(bf16, 0x7F80u))
MK_TYPE(F8_E4M3,   1,   1,  -1,  -1, F16,    MK_NUMBER(e4m3, 0x7Fu))
MK_TYPE(Q4_0,     32,  18,   2,   2, F16,    MK_BLOCK(q4_0))
MK_TYPE(Q4_1,     32,  20,   3,   3, F16,    MK_BLOCK(q4_1))
MK_TYPE(Q5_0,     32,  22,   6,   8, F16,    MK_BLOCK(q5_0))
MK_TYPE(Q5_1,     32,  24,   7,   9, F16,    MK_BLOCK(q5_1))
MK_TYPE(Q8_0,     32,  34,   8,   7, F16,    MK_BLOCK(q8_0))
MK_TYPE(Q2_K,    256,  84,  10,  10, Q4_0,   MK_BLOCK(q2_k))
MK_TYPE(Q3_K,    256, 110,  11,  12, Q4_0,   MK_BLOCK(q3_k))
MK_TYPE(Q4_K,    256, 144,  12,  14, Q5_0,   MK_BLOCK(q4_k))
MK_TYPE(Q5_K,    256, 176,  13,  16, Q5_0,   MK_BLOCK(q5_k))
MK_TYPE(Q6_K,    256, 210,  14,  18, Q8_0,   MK_BLOCK(q6_k))
MK_TYPE(IQ2_XXS, 256,  66,  16,  -1, F16,    MK_STORED(iq2_xxs))
MK_TYPE(IQ2_XS,  256,  74,  17,  -1, F16,    MK_STORED(iq2_xs))
MK_TYPE(IQ3_XXS, 256,  98,  18,  -1, F16,    MK_STORED(iq3_xxs))
MK_TYPE(IQ1_S,   256,  50,  19,  -1, F16,    MK_STORED(iq1_s))
MK_TYPE(IQ4_NL,   32,  18,  20,  25, F16,    MK_BLOCK(iq4_nl))
MK_TYPE(IQ3_S,   256, 110,  21,  -1, F16,    MK_STORED(iq3_s))
MK_TYPE(IQ2_S,   256,  82,  22,  -1, F16,    MK_STORED(iq2_s))
MK_TYPE(IQ4_XS,  256, 136,  23,  30, IQ4_NL, MK_BLOCK(iq4_xs))
MK_TYPE(IQ1_M,   256,  56,  29,  -1, F16,    MK_STORED(iq1_m))
MK_TYPE(TQ1_0,   256,  54,  34,  -1, F16,    MK_STORED(tq1_0))
MK_TYPE(TQ2_0,   256,  66,  35,  -1, F16,    MK_STORED(tq2_0))
MK_TYPE(MXFP4,    32,  17,  39,  -1, F16,    MK_STORED(mxfp4))
MK_TYPE(NVFP4,    64,  36,  40,  -1, F16,    MK_STORED(nvfp4))
