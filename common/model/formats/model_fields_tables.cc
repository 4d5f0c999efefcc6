#include "common/model/formats/model_fields.h"
#include "common/model/formats/stored_type.h"

namespace pregate {
namespace {

constexpr FieldUse kRead = FieldUse::kRead, kHarmless = FieldUse::kHarmless,
                   kRefused = FieldUse::kRefused;

constexpr Fields kConfig[] = {
    {"model_type architectures", kRead, "",
     "llama, mistral, qwen2, qwen3, smollm3, phi3, granite, each with its ForCausalLM; pregate's "
     "own"},
    {"vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
     "num_key_value_heads head_dim max_position_embeddings",
     kRead, "", "shapes; every tensor is compared with them as it is stored"},
    {"hidden_act rms_norm_eps tie_word_embeddings", kRead, "", "silu (swish) is what runs"},
    {"rope_theta rope_scaling rope_parameters original_max_position_embeddings", kRead, "",
     "see rope_scaling"},
    {"sliding_window use_sliding_window layer_types max_window_layers", kRead, "",
     "as the family reads them; of llama and granite refused unless switched off or no shorter "
     "than the context"},
    {"bos_token_id eos_token_id", kRead, "", "-1 is none; generation_config.json's eos goes first"},
    {"pregate", kRead, "", "experts, router, digest, provenance"},

    {"_name_or_path name_or_path _commit_hash transformers_version transformers.js_config "
     "unsloth_version unsloth_fixed model_name license task_specific_params finetuning_task "
     "problem_type num_labels id2label label2id is_llama_config _from_model_config",
     kHarmless, "", "names and labels"},
    {"torch_dtype dtype torchscript use_bfloat16", kHarmless, "",
     "how others compute; the stored types are in the weights, ours is `--dtype`"},
    {"use_cache return_dict use_return_dict output_attentions output_hidden_states "
     "_attn_implementation attn_implementation _attn_implementation_autoset _flash_attn_2_enabled "
     "use_flash_attn use_flash_attention flash_attention fused_rms_norm gradient_checkpointing "
     "use_parallel_context pretraining_tp tensor_parallel chunk_size_feed_forward",
     kHarmless, "", "how the same function is computed"},
    {"initializer_range initializer_factor init_std init_method attention_dropout hidden_dropout "
     "resid_pdrop embd_pdrop attn_pdrop residual_dropout attention_probs_dropout_prob "
     "hidden_dropout_prob classifier_dropout dropout",
     kHarmless, "", "training only"},
    {"pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id is_decoder", kHarmless, "",
     "no such token is ever added to a text"},
    {"max_sequence_length max_seq_len seq_length model_max_length "
     "tokenizer_class prefix",
     kHarmless, "", "max_position_embeddings and the tokenizer's files say it"},

    {"attention_bias attn_bias attention_out_bias qkv_bias use_qkv_bias add_qkv_bias mlp_bias "
     "use_mlp_bias ffn_bias bias use_bias add_bias_linear lm_head_bias",
     kRefused, "[false]", "biases"},
    {"qk_norm use_qk_norm qk_layernorm use_qk_layernorm", kRefused, "[false]",
     "norms of queries and keys"},
    {"hidden_activation activation_function activation mlp_activation act_fn", kRefused,
     "[\"silu\", \"swish\"]", "another activation"},
    {"norm_type layer_norm_type normalization_type", kRefused, "[\"rms_norm\", \"rmsnorm\"]",
     "another norm"},
    {"layer_norm_eps layer_norm_epsilon norm_eps", kRefused, "[]", "rms_norm_eps is what is read"},
    {"embedding_multiplier residual_multiplier logits_scaling logit_scale embedding_scale "
     "residual_scale scale_emb rope_ratio",
     kRefused, "[1]", "multipliers"},
    {"attention_multiplier query_pre_attn_scalar scale_depth dim_model_base", kRefused, "[]",
     "other scales of attention and residuals"},
    {"final_logit_softcapping attn_logit_softcapping logits_soft_cap clip_qkv", kRefused, "[]",
     "caps"},
    {"partial_rotary_factor rotary_pct rotary_percent rope_pct", kRefused, "[1]",
     "rotated in part"},
    {"rope_interleaved rope_interleave alibi use_alibi", kRefused, "[false]", "other positions"},
    {"position_embedding_type", kRefused, "[\"rope\", \"rotary\"]", "other positions"},
    {"no_rope_layers rope_local_base_freq rotary_emb_base rotary_base rope_base "
     "sliding_window_pattern",
     kRefused, "[]", "layers that differ; other names of rope_theta"},
    {"parallel_residual use_parallel_residual parallel_attn is_encoder_decoder add_cross_attention "
     "tie_encoder_decoder",
     kRefused, "[false]", "another architecture"},
    {"num_local_experts num_experts n_routed_experts n_shared_experts num_experts_per_tok "
     "num_experts_per_token num_nextn_predict_layers",
     kRefused, "[0]", "experts that pregate did not make"},
    {"cross_attention_hidden_size", kRefused, "[]", "another architecture"},
    {"pruned_heads", kRefused, "[{}]", "missing heads"},
    {"auto_map", kRefused, "[{}]", "code of its own computes such a model"},
    {"quantization_config compression_config", kRefused, "[]", "quantised weights", "quant_method",
     kGiveOtherWeights},
};

constexpr Fields kAuthors[] = {
    {"N_cluster intermediate_size_expert fuse_residual add_cluster_predictor hidden_act_predictor "
     "normalizer nonautoregressive embedding_dim inter_dim n_layer n_head",
     kRead, "", "experts and router"},
    {"residual_dim max_position_embeddings_predictor", kHarmless, "",
     "the widths are the tensors'; RoPE has no limit"},
};

constexpr Fields kRope[] = {
    {"type rope_type factor low_freq_factor high_freq_factor original_max_position_embeddings "
     "rope_theta partial_rotary_factor",
     kRead, "",
     "default, linear, llama3, yarn, longrope (su); dynamic, whose contexts end at "
     "max_position_embeddings, up to which it scales nothing"},
    {"beta_fast beta_slow truncate mscale mscale_all_dim attention_factor", kRead, "",
     "yarn; attention_factor of longrope too"},
    {"short_factor long_factor", kRead, "",
     "longrope; the long ones where contexts may be longer than the original"},
};

constexpr Fields kGeneration[] = {
    {"eos_token_id", kRead, "", "a number or a list; a text ends at each, and at the tokenizer's"},
    {"_from_model_config transformers_version bos_token_id pad_token_id decoder_start_token_id "
     "trust_remote_code chat_format user_token_id assistant_token_id max_window_size",
     kHarmless, "", "names; ids that are never added to a text"},
    {"do_sample temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff "
     "repetition_penalty encoder_repetition_penalty no_repeat_ngram_size "
     "encoder_no_repeat_ngram_size penalty_alpha dola_layers length_penalty diversity_penalty "
     "num_beams num_beam_groups num_return_sequences early_stopping renormalize_logits "
     "exponential_decay_length_penalty low_memory token_healing",
     kHarmless, "", "a request says how it is sampled: these defaults are not applied"},
    {"max_length min_length max_new_tokens min_new_tokens max_time", kHarmless, "",
     "a request says how long its answer may be"},
    {"use_cache cache_implementation cache_config return_legacy_cache prefill_chunk_size "
     "return_dict_in_generate output_attentions output_hidden_states output_logits output_scores "
     "disable_compile compile_config is_assistant num_assistant_tokens "
     "num_assistant_tokens_schedule assistant_* prompt_lookup_num_tokens max_matching_ngram_size "
     "target_lookbehind",
     kHarmless, "", "how the same function is computed"},
    {"suppress_tokens begin_suppress_tokens bad_words_ids forced_decoder_ids force_words_ids "
     "constraints",
     kRefused, "[[]]", "ids that are forbidden or forced"},
    {"stop_strings sequence_bias", kRefused, "[[], {}]", "ends and biases beyond end ids"},
    {"forced_bos_token_id forced_eos_token_id watermarking_config", kRefused, "[]",
     "ids that are forced or marked"},
    {"guidance_scale", kRefused, "[1]", "another sampling"},
    {"remove_invalid_values", kRefused, "[false]", "another sampling"},
};

constexpr Fields kTokenizerConfig[] = {
    {"bos_token eos_token unk_token sep_token pad_token cls_token mask_token add_bos_token "
     "chat_template added_tokens_decoder legacy",
     kRead, "", "special tokens and the chat template"},
    {"add_eos_token do_lower_case", kRefused, "[false]", "other ids"},
    {"*_token additional_special_tokens extra_special_tokens", kHarmless, "",
     "names of tokens; tokenizer.json and tokenizer.model hold them"},
    {"tokenizer_class tokenizer_file tokenizer_type vocab_file merges_file name_or_path "
     "_name_or_path _commit_hash special_tokens_map_file processor_class auto_map backend is_local "
     "transformers_version unsloth_version local_files_only",
     kHarmless, "", "the files themselves decide"},
    {"model_max_length max_length max_len padding_side truncation_side truncation "
     "truncation_strategy padding pad_to_multiple_of pad_token_type_id stride "
     "return_token_type_ids "
     "return_tensors model_input_names image_max_length",
     kHarmless, "", "nothing is padded, and a prompt that is too long is refused"},
    {"clean_up_tokenization_spaces spaces_between_special_tokens split_special_tokens errors "
     "use_default_system_prompt use_fast from_slow fix_mistral_regex add_prefix_space "
     "trim_offsets response_schema",
     kHarmless, "", "as in the `tokenizers` package, which does not read this file"},
    {"sp_model_kwargs", kRefused, "[{}]", "sampled segmentation"},
};

constexpr Fields kSpecialTokensMap[] = {
    {"eos_token", kRead, "", "where tokenizer_config.json names none"},
    {"*_token additional_special_tokens extra_special_tokens", kHarmless, "",
     "names of tokens; tokenizer.json and tokenizer.model hold them"},
};

constexpr Fields kTokenizer[] = {
    {"added_tokens normalizer pre_tokenizer post_processor decoder model", kRead, "",
     "part by part (docs/TOKENIZERS.md); what is not known of one is refused by name"},
    {"version", kHarmless, "", "of the format"},
    {"truncation padding", kHarmless, "",
     "nothing is padded, and a prompt that is too long is refused"},
};

constexpr Fields kGguf[] = {
    {"general.architecture general.alignment", kRead, "",
     "llama, qwen2, qwen3, smollm3, phi3, granite; ARCH below"},
    {"general.type", kRefused, "[\"model\"]", "adapters, projectors, vocabularies"},
    {"general.*", kHarmless, "", "names; a request says how it is sampled"},
    {"split.no split.count split.tensors.count", kRead, "",
     "the parts of a split model; the first one is given"},
    {"ARCH.context_length ARCH.embedding_length ARCH.block_count ARCH.feed_forward_length "
     "ARCH.attention.head_count ARCH.attention.head_count_kv ARCH.attention.key_length "
     "ARCH.attention.value_length ARCH.attention.layer_norm_rms_epsilon",
     kRead, "", "shapes; a list must hold one value"},
    {"ARCH.rope.dimension_count ARCH.rope.freq_base ARCH.rope.scaling.type "
     "ARCH.rope.scaling.factor ARCH.rope.scale_linear ARCH.rope.scaling.original_context_length "
     "ARCH.rope.scaling.attn_factor",
     kRead, "",
     "linear, yarn, longrope and the factors of rope_freqs.weight; whole heads, but for phi3"},
    {"ARCH.attention.sliding_window", kRead, "",
     "of llama (Mistral) and phi3; else refused unless 0 or no shorter than the context"},
    {"ARCH.vocab_size ARCH.tensor_data_layout ARCH.attention.layer_norm_epsilon "
     "ARCH.rope.scaling.finetuned",
     kHarmless, "", "not used by the architecture"},
    {"ARCH.expert_count ARCH.expert_used_count ARCH.pooling_type", kRefused, "[0]",
     "another architecture"},
    {"ARCH.logit_scale ARCH.residual_scale ARCH.embedding_scale", kRefused, "[0, 1]",
     "multipliers"},
    {"ARCH.attention.scale ARCH.attention.clamp_kqv ARCH.attention.max_alibi_bias "
     "ARCH.attn_logit_softcapping ARCH.final_logit_softcapping",
     kRefused, "[0]", "other attention"},
    {"ARCH.use_parallel_residual", kRefused, "[false]", "another architecture"},
    {"ARCH.attention.causal", kRefused, "[true]", "another architecture"},
    {"tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens tokenizer.ggml.token_type "
     "tokenizer.ggml.scores tokenizer.ggml.merges tokenizer.ggml.add_bos_token "
     "tokenizer.ggml.add_space_prefix tokenizer.ggml.remove_extra_whitespaces "
     "tokenizer.ggml.precompiled_charsmap tokenizer.chat_template tokenizer.chat_template.*",
     kRead, "", "the tokenizer"},
    {"tokenizer.ggml.bos_token_id tokenizer.ggml.eos_token_id tokenizer.ggml.eot_token_id "
     "tokenizer.ggml.eom_token_id tokenizer.ggml.fim_pad_token_id tokenizer.ggml.fim_rep_token_id "
     "tokenizer.ggml.fim_sep_token_id",
     kRead, "", "a text ends at all but the first, as in llama.cpp; -1 and 4294967295 are none"},
    {"tokenizer.ggml.unknown_token_id tokenizer.ggml.seperator_token_id "
     "tokenizer.ggml.padding_token_id tokenizer.ggml.mask_token_id tokenizer.ggml.cls_token_id "
     "tokenizer.ggml.fim_pre_token_id tokenizer.ggml.fim_suf_token_id "
     "tokenizer.ggml.fim_mid_token_id tokenizer.ggml.prefix_token_id "
     "tokenizer.ggml.suffix_token_id tokenizer.ggml.middle_token_id",
     kHarmless, "", "ids that are never added to a text"},
    {"tokenizer.ggml.token_type_count tokenizer.ggml.added_tokens tokenizer.huggingface.json "
     "tokenizer.chat_templates",
     kHarmless, "", "the same once more, or for other architectures"},
    {"tokenizer.ggml.add_eos_token tokenizer.ggml.add_sep_token", kRefused, "[false]", "other ids"},
};

}  // namespace

const FieldTable kConfigFields = {"config.json", kConfig};
const FieldTable kAuthorsConfigFields = {"config.json of the authors' layout, further", kAuthors};
const FieldTable kRopeFields = {"config.json: rope_scaling, rope_parameters", kRope};
const FieldTable kGenerationConfigFields = {"generation_config.json (in config.json too)",
                                            kGeneration};
const FieldTable kSpecialTokensMapFields = {"special_tokens_map.json", kSpecialTokensMap};
const FieldTable kTokenizerConfigFields = {"tokenizer_config.json", kTokenizerConfig};
const FieldTable kTokenizerFields = {"tokenizer.json", kTokenizer};
const FieldTable kGgufFields = {"GGUF metadata", kGguf};

}  // namespace pregate
